"""Start Prefect's background services of the split topology: the stock command, with the settings that hold a password, with
reconcile.py among the services, and with a queue whose tasks do not wait five minutes for a successor of the process that had them
in hand.
"""

from __future__ import annotations

import functools
import os
import runpy
import sys
from datetime import timedelta
from importlib import metadata

import launched
import server_settings

KNOWN_QUEUE = "0.27."
ABANDONED_AFTER = timedelta(seconds=30)
"""pydocket's own is five minutes. A living worker says each quarter of it that it is still at work on a task."""


def main() -> None:
    """Be `prefect server services start`, which stops cleanly on SIGINT only (Prefect 3.8.8)."""
    server_settings.apply(os.environ)
    mends = ["task queue's password", *(["successor of a stopped process"] if take_over_soon() else [])]
    launched.publish(metadata.version("prefect"), mends)
    import reconcile  # Prefect reads its settings when it is imported

    reconcile.register(os.environ["PLATFORM_API_URL"])
    sys.argv = ["prefect", "server", "services", "start"]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def take_over_soon() -> bool:
    """What a stop interrupts is nobody's until then: for five minutes after an update under load no run was marked Late.

    False with another pydocket, where it stays so.
    """
    if not metadata.version("pydocket").startswith(KNOWN_QUEUE):
        print("services.py: another pydocket: what a stop interrupts is done minutes later", file=sys.stderr)
        return False
    from docket import Worker

    start = functools.partialmethod(Worker.__init__, redelivery_timeout=ABANDONED_AFTER)
    Worker.__init__ = start  # type: ignore[method-assign,assignment]
    return True


if __name__ == "__main__":
    main()
