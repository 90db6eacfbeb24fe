"""A Runner for tests of rules: it answers from a script and records every command line. The only fake of our own code."""

from __future__ import annotations

import contextlib
import fnmatch
import shlex
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .fake_engine import FakeEngine
from .runner import CommandFailed, LocalRunner, Result


@dataclass(frozen=True)
class Call:
    """A command that was run, its standard input, and how long it may take."""

    words: tuple[str, ...]
    stdin: bytes = b""
    seconds: float = 0

    @property
    def line(self) -> str:
        """As a shell would take it."""
        return shlex.join(self.words)


@dataclass(frozen=True)
class _Answer:
    words: tuple[str, ...]
    result: Result

    def fits(self, words: Sequence[str]) -> bool:
        rest = iter(words)
        return all(any(fnmatch.fnmatchcase(word, pattern) for word in rest) for pattern in self.words)


class FakeRunner:
    """Answers a command whose words match, in order, those of an answer (shell patterns; others may stand between them).

    The last answer given wins; `engine` answers what is asked of the Docker engine. Our shell scripts without an answer run for real, so that files of a temporary root folder behave as
    on a host; every other unknown command, and a script that would call docker, is an AssertionError.
    """

    place = "host"

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.calls: list[Call] = []
        self._answers: list[_Answer] = []
        self._shell = LocalRunner({"PATH": "/usr/bin:/bin"})

    def answer(self, *words: str, out: str | bytes = "", code: int = 0, error: str = "") -> None:
        stdout = out if isinstance(out, bytes) else out.encode()
        self._answers.insert(0, _Answer(words, Result(code, stdout, error)))

    def lines(self, *programs: str) -> list[str]:
        """The command lines that begin with one of these programs."""
        return [call.line for call in self.calls if call.words[0] in programs]

    # -- Runner
    def run(
        self, words: Sequence[str], stdin: bytes = b"", *, check: bool = True, seconds: float = 600
    ) -> Result:
        self.calls.append(Call(tuple(words), stdin, seconds))
        result = self._result(words, stdin, seconds)
        if check and result.code:
            raise CommandFailed(self.place, words, result)
        return result

    def stream(self, words: Sequence[str]) -> int:
        return self.run(words, check=False).code

    def start(self, words: Sequence[str], both: bool = False) -> subprocess.Popen[bytes]:
        """Scripts only: what is answered has no process."""
        self.calls.append(Call(tuple(words)))
        self._require_script(words)
        return self._shell.start(words, both)

    def connect(self, words: Sequence[str]) -> socket.socket:
        self.calls.append(Call(tuple(words)))
        if tuple(words[-3:]) != ("docker", "system", "dial-stdio"):
            raise AssertionError(f"no answer for: {shlex.join(words)}")
        return self.engine.connect()

    @contextlib.contextmanager
    def forward(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        yield address, port

    def _result(self, words: Sequence[str], stdin: bytes, seconds: float) -> Result:
        for each in self._answers:
            if each.fits(words):
                return each.result
        self._require_script(words)
        return self._shell.run(words, stdin, check=False, seconds=seconds)

    def _require_script(self, words: Sequence[str]) -> None:
        if tuple(words[:2]) != ("sh", "-c") or "docker" in words[2]:
            raise AssertionError(f"no answer for: {shlex.join(words)}")
