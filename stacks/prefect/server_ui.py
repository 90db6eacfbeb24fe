"""Prefect's copy of its UI, in the folder that PREFECT_SERVER_UI_STATIC_DIRECTORY names."""

from __future__ import annotations

import contextlib
import os


def make_replaceable(folder: str) -> None:
    """Let the owner write in every folder of the copy; does nothing without one.

    The copy has the modes of the runtime's folders, which are read-only. With another Prefect or base path it is deleted first, and where
    that fails Prefect serves no UI at all (3.8.8, `create_ui_app`).
    """
    for each, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(each, os.stat(each).st_mode | 0o700)
