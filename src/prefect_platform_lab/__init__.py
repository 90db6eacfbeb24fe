"""A VPS on one machine, from a real sshd and a real Docker engine. For trying the platform, and for its tests.

    host = lab.up(root, print)          # idempotent; interrupted, the next call resumes
    ssh -F host.ssh_config platform-lab docker ps
    lab.down(root, print)               # nothing is left but built images; everything=True: not even those

Needs root, because an engine does. Accounts, and whatever is written to /etc, /opt and /srv through ssh, exist in the lab only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .host import LabHost, down, reboot, status, up

__all__ = ["LabHost", "down", "reboot", "status", "up"]


def __getattr__(name: str) -> Any:
    """Imported when used: the stand-ins need nothing of it, and that for flyctl starts a thousand times in a run of the tests."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import host

    return getattr(host, name)
