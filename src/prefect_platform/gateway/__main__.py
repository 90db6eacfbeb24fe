"""`python -m prefect_platform.gateway <command>`."""

from __future__ import annotations

import sys

from prefect_platform.gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
