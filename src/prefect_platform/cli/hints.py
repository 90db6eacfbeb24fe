"""The commands that our texts name, completed with their environment so that they can be pasted.

The author of a hint does not know the environment, so `--env` is added where texts are printed.
"""

from __future__ import annotations

import re

LOCAL = "local"
"""What most tasks take without --env."""
OTHER_DEFAULTS = (
    (re.compile(r"(?:monitor|host)\.|vault\.recover|platform\.(?:history|pin-images)"), ""),
    (re.compile(r"fly\."), "fly"),
    (re.compile(r"authentik\.(?:shared\.|(?:create|remove|list|setup|first)-)"), "production"),
)
"""Tasks by their names → the environment that they take without --env; empty: they have none."""

# A task of a namespace, with no --env in the rest of its command. The lab's tasks know no environment.
_COMMAND = re.compile(r"\./invoke (?!lab\.)([a-z]+(?:\.[a-z-]*[a-z])+)(?![^,;()\n]*--env)")
_about = LOCAL


def about(env: str) -> None:
    """From now on the texts are about this environment."""
    global _about
    _about = env


def default_env(task: str) -> str:
    """The environment that a task takes without --env."""
    return next((env for pattern, env in OTHER_DEFAULTS if pattern.match(task)), LOCAL)


def addressed(text: str) -> str:
    """With ` --env NAME` behind each `./invoke TASK` that has none, unless that is the task's default."""
    return _COMMAND.sub(
        lambda found: found[0] if default_env(found[1]) == _about else f"{found[0]} --env {_about}", text
    )
