"""The commands that our texts name: made such that they can be pasted, with the environment that they are about.

The places that write a hint know what to do, not for which environment they work; so it is added where texts are printed.
"""

from __future__ import annotations

import re

LOCAL = "local"
"""What tasks take without --env."""

# A task of a namespace, with no --env in the rest of its command. The lab's tasks know no environment.
_COMMAND = re.compile(r"(\./invoke (?!lab\.)[a-z]+(?:\.[a-z-]*[a-z])+)(?![^,;()\n]*--env)")
_about = LOCAL


def about(env: str) -> None:
    """From now on the texts are about this environment."""
    global _about
    _about = env


def addressed(text: str) -> str:
    """With ` --env NAME` behind each `./invoke TASK` that has none, unless that would be the default."""
    return text if _about == LOCAL else _COMMAND.sub(rf"\1 --env {_about}", text)
