"""The error tree: each class is an exit code. `cli/program.py` prints the message and exits with it.

PlatformError      1  any other error
├── ConfigError    2  settings or a stack file are wrong; nothing was touched
├── PreflightError 3  the machine is not ready (port taken, disk full, Python too old); nothing was touched
├── LockedError    4  another command is at work on this environment
├── CheckFailed    5  applied, but the proof failed
├── ApplyError     6  a step of the plan failed on the way; run it again to resume
└── ProgramFailed  1  a program inside a service failed; `code` is its own exit code
"""

from __future__ import annotations


class PlatformError(Exception):
    """One paragraph: `place: what is wrong`, then a `hint:` that names the next command."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.reason = message
        self.hint = hint
        super().__init__(message, hint)

    @property
    def message(self) -> str:
        return f"{self.reason}\nhint: {self.hint}" if self.hint else self.reason

    def __str__(self) -> str:
        return self.message


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


class ProgramFailed(PlatformError):
    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)
