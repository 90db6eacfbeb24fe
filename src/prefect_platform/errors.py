"""The error tree. Its root is Invoke's Exit, so a message prints cleanly and the exit code is ours.

PlatformError      1  anything else that stopped us
├── ConfigError    2  settings or a stack file are wrong; nothing was touched
├── PreflightError 3  the machine is not ready (port taken, disk full, Python too old); nothing was touched
├── LockedError    4  somebody else is at work on this environment
├── CheckFailed    5  applied, but the proof failed
└── ApplyError     6  a step of the plan failed on the way; running the command again goes on
"""

from __future__ import annotations

from invoke.exceptions import Exit


class PlatformError(Exit):
    """One paragraph: `place: what is wrong`, then a `hint:` that names the next command."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.reason = message
        self.hint = hint
        super().__init__(f"{message}\nhint: {hint}" if hint else message, code=self.exit_code)

    def __str__(self) -> str:
        return str(self.message)


class ConfigError(PlatformError):
    exit_code = 2


class PreflightError(PlatformError):
    exit_code = 3


class LockedError(PlatformError):
    exit_code = 4


class CheckFailed(PlatformError):
    exit_code = 5


class ApplyError(PlatformError):
    exit_code = 6
