"""The only place that starts commands on a host: over the system's OpenSSH client, or on this machine when it is the host.

OpenSSH, not a library: the operator's ssh config, agent, jump hosts and known_hosts apply as on the command line.
All commands of a run share one multiplexed connection: each costs a round trip and no handshake.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prefect_platform.errors import PlatformError, PreflightError

_SSH_FAILED = 255
_UMASK = 0o022
"""For every command on a host: containers must read what it makes, and no user of the host may write it."""
_ALIVE_SECONDS = 15
_ATTEMPTS = 5
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_HINTS = (
    (
        "Permission denied (",
        "the host refuses the key: ssh-add -l shows the agent's keys; try `ssh {there} true`",
    ),
    (
        _CHANGED,
        "the host key differs from known_hosts. If the host was reinstalled: ssh-keygen -R {host}",
    ),
    ("Host key verification failed", "verify and accept the host key once: ssh {there} true"),
    ("Could not resolve hostname", "correct platform.host in invoke.yaml (or the Host in your ssh config)"),
    ("Connection refused", "check that the host is up and the port is right: try `ssh {there} true`"),
    (
        "timed out",
        "check that the host is up and no firewall drops the connection: try `ssh {there} true`",
    ),
    ("No route to host", "the host cannot be reached from here: check the network, a VPN, a jump host"),
)


@dataclass(frozen=True)
class Result:
    """What a command did. `stdout` is bytes: files travel through it as well."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


class CommandFailed(PlatformError):
    """A command on the host ended with another code than 0. Its words contain no secret: secrets travel by stdin."""

    def __init__(self, where: str, words: Sequence[str], result: Result, hint: str = "") -> None:
        self.result = result
        said = result.stderr.strip() or result.text.strip() or "no output"
        super().__init__(f"{where}: {_shown(words)} ended with {result.code}: {said[-2000:]}", hint)


def _shown(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 120 else text[:117] + "…"


class Runner(Protocol):
    """Runs words on a host. `stdin` carries files and secrets, never the words."""

    place: str

    def run(
        self, words: Sequence[str], stdin: bytes = b"", *, check: bool = True, seconds: float = 600
    ) -> Result: ...
    def stream(self, words: Sequence[str]) -> int: ...
    def start(self, words: Sequence[str], both: bool = False) -> subprocess.Popen[bytes]: ...
    def connect(self, words: Sequence[str]) -> socket.socket: ...
    def forward(self, address: str, port: int) -> contextlib.AbstractContextManager[tuple[str, int]]: ...


class LocalRunner:
    """This machine is the host (`platform.host: localhost`)."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        self.place = "localhost"
        self._environ = environ

    def run(
        self, words: Sequence[str], stdin: bytes = b"", *, check: bool = True, seconds: float = 600
    ) -> Result:
        return _run(self.place, list(words), words, stdin, check, seconds, self._environ)

    def stream(self, words: Sequence[str]) -> int:
        return subprocess.call(list(words), env=self._environ, umask=_UMASK)

    def start(self, words: Sequence[str], both: bool = False) -> subprocess.Popen[bytes]:
        return _piped(list(words), both, self._environ)

    def connect(self, words: Sequence[str]) -> socket.socket:
        return _connected(list(words), self._environ)

    @contextlib.contextmanager
    def forward(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        yield address, port


class SshRunner:
    """A host as the operator's own `ssh HOST` reaches it."""

    def __init__(self, host: str, config: Path | None = None) -> None:
        self.place = host
        self.host = host
        self._there = f"-F {shlex.quote(str(config))} {host}" if config else host
        key = hashlib.sha256(f"{host}\0{config}\0{os.getuid()}".encode()).hexdigest()[:12]
        # A short path: the socket's may have about 100 bytes. A private folder: whoever can write the socket is us on the host.
        folder = (
            Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
            / f"prefect-platform-{os.getuid()}"
        )
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # Not through a link: another user could have made it, in a folder where all may write.
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PreflightError(f"{folder}: not owned by this user alone", f"remove it: rm -r {folder}")
        self._base = [
            "ssh",
            *(["-F", str(config)] if config else []),
            *(
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=15",
                "-o",
                f"ServerAliveInterval={_ALIVE_SECONDS}",
            ),
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/{key}", "-o", "ControlPersist=60"),
        ]

    def run(
        self, words: Sequence[str], stdin: bytes = b"", *, check: bool = True, seconds: float = 600
    ) -> Result:
        command = self._command(words)
        result = _run(self.place, command, words, stdin, False, seconds, None)
        if result.code == _SSH_FAILED:
            raise self._unreachable(result)
        if check and result.code:
            raise CommandFailed(self.place, words, result)
        return result

    def stream(self, words: Sequence[str]) -> int:
        """With the operator's own terminal, for logs and shells; returns the exit code."""
        tty = ["-t"] if os.isatty(0) and os.isatty(1) else ["-T"]
        return subprocess.call(self._command(words, tty))

    def start(self, words: Sequence[str], both: bool = False) -> subprocess.Popen[bytes]:
        """In the background, with pipes; `both`: stderr joins stdout."""
        return _piped(self._command(words), both, None)

    def connect(self, words: Sequence[str]) -> socket.socket:
        """A command's standard input and output as one socket; to close it ends the command."""
        return _connected(self._command(words), None)

    def _command(self, words: Sequence[str], tty: Sequence[str] = ("-T",)) -> list[str]:
        return [*self._base, *tty, self.host, "--", f"umask {_UMASK:03o}; {shlex.join(words)}"]

    @contextlib.contextmanager
    def forward(self, address: str, port: int) -> Iterator[tuple[str, int]]:
        """A loopback port here that leads to `address:port` as the host sees it."""
        local = self._forwarded(address, port)
        there = f"127.0.0.1:{local}:{address}:{port}"
        try:
            yield "127.0.0.1", local
        finally:
            subprocess.run([*self._base, "-O", "cancel", "-L", there, self.host], capture_output=True)

    def _forwarded(self, address: str, port: int) -> int:
        """The loopback port that was opened. The connection may not be open yet, which a command mends, and a free port can be taken by
        another process before ssh has it: then another is tried (ssh does not say why it could not listen).
        """
        for _ in range(_ATTEMPTS):
            local = _free_port()
            words = ["-O", "forward", "-L", f"127.0.0.1:{local}:{address}:{port}"]
            done = subprocess.run([*self._base, *words, self.host], capture_output=True, text=True)
            if not done.returncode:
                return local
            self.run(["true"])
        raise PlatformError(
            f"{self.place}: {done.stderr.strip()}", "the host's sshd must allow AllowTcpForwarding"
        )

    def _unreachable(self, result: Result) -> PreflightError:
        said = result.stderr.strip() or "ssh failed without output"
        if _CHANGED in said:  # a banner of fifteen lines
            said = f"{_CHANGED}: a man in the middle, or the host was reinstalled"
        hint = next((hint for sign, hint in _HINTS if sign in said), "see what is wrong: ssh -v {there} true")
        return PreflightError(f"{self.host}: {said[-800:]}", hint.format(host=self.host, there=self._there))


def _run(
    place: str,
    command: list[str],
    words: Sequence[str],
    stdin: bytes,
    check: bool,
    seconds: float,
    environ: dict[str, str] | None,
) -> Result:
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, timeout=seconds, env=environ, umask=_UMASK
        )
    except subprocess.TimeoutExpired:
        raise PlatformError(
            f"{place}: {_shown(words)} did not finish within {seconds:.0f} s", "run the command again"
        ) from None
    except FileNotFoundError as error:
        raise PreflightError(
            f"{place}: {error.filename}: not installed", "install it, then run the command again"
        ) from None
    result = Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
    if check and result.code:
        raise CommandFailed(place, words, result)
    return result


def _piped(command: list[str], both: bool, environ: dict[str, str] | None) -> subprocess.Popen[bytes]:
    errors = subprocess.STDOUT if both else None
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environ, umask=_UMASK
    )


def _connected(command: list[str], environ: dict[str, str] | None) -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
            umask=_UMASK,
        )
    # Reaps the process; it ends with its socket.
    threading.Thread(target=process.wait, daemon=True).start()
    return ours


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
