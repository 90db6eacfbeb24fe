"""Start Prefect's background services of the split topology: the stock command, with the settings that hold a password."""

from __future__ import annotations

import os
import sys
from importlib import metadata

import launched
import server_settings
import server_watch


def main() -> None:
    """Become `prefect server services start`, which stops cleanly on SIGINT only (Prefect 3.8.8)."""
    server_settings.apply(os.environ)
    launched.publish(metadata.version("prefect"), ["task queue's password"])
    server_watch.begin_anew()
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "server", "services", "start"])


if __name__ == "__main__":
    main()
