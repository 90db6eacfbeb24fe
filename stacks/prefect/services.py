"""Start Prefect's background services of the split topology: the stock command, with the settings that hold a password, and with
reconcile.py among the services.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib import metadata

import launched
import server_settings
import server_watch


def main() -> None:
    """Be `prefect server services start`, which stops cleanly on SIGINT only (Prefect 3.8.8)."""
    server_settings.apply(os.environ)
    launched.publish(metadata.version("prefect"), ["task queue's password"])
    server_watch.begin_anew()
    import reconcile  # Prefect reads its settings when it is imported

    reconcile.register(os.environ["PLATFORM_API_URL"])
    sys.argv = ["prefect", "server", "services", "start"]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
