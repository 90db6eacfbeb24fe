"""A Docker host: what is on it, and the few ways to change it. Every effect goes through a runner.

<root>/<env>/<stack>/releases/<id>/   compose.yml as it was applied; never changed afterwards
                    current           link to the one that runs
                    files/<digest>/   what services mount, named by content
                    approle/          the agent's login, 0600
<root>/<env>/history.jsonl, lock      history of changes; the lock and its holder
<root>/host/…                         the same for stacks that the whole host shares; host/routes is Traefik's folder
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from prefect_platform.errors import ApplyError, LockedError, PlatformError

from . import facts
from .engine import Engine
from .runner import Result, Runner

# Held while a byte arrives every few seconds: a client that was killed or cut off releases it.
_LOCK = """
mkdir -p "$1" && exec 9>>"$1/lock" || exit 7
flock -n 9 || { echo "busy $(cat "$1/lock.holder" 2>/dev/null)"; flock -w "$3" 9 || exit 9; }
printf '%s' "$2" >"$1/lock.holder"; echo held
while [ "$(timeout 60 head -c 1)" = . ]; do :; done
"""
_LAY = 'mkdir -p "$1" && tar -C "$1" -xf -'
_LAY_PRIVATE = 'umask 077 && tar -xf - && chown -R "$2" . && find . -type d -exec chmod 700 {} +'
_SWITCH = 'ln -s "releases/$2" "$1/.current.tmp" && mv -T "$1/.current.tmp" "$1/current"'
_READ = '[ -e "$1" ] && tar -C "$1" -cf - . || true'


class Host:
    """One host and the root folder on it."""

    def __init__(self, runner: Runner, root: str) -> None:
        self.runner = runner
        self.root = root
        self._facts: facts.HostFacts | PlatformError | None = None
        self._looking = threading.Lock()
        self._has_docker = False

    @cached_property
    def engine(self) -> Engine:
        return Engine(
            self.runner.place,
            lambda: self.runner.connect(self.docker_words("system", "dial-stdio")),
            self._look_for_docker,
        )

    def look_ahead(self) -> None:
        """Reach the host while the command is still loading. Errors are raised where the result is used."""

        def look() -> None:
            with contextlib.suppress(PlatformError):
                self.facts()
                self.engine.open()

        threading.Thread(target=look, daemon=True).start()

    # -- what exists
    def facts(self) -> facts.HostFacts:
        """Looked at once. Raises PreflightError for a host that cannot be reached."""
        with self._looking:
            if self._facts is None:
                try:
                    self._facts = facts.parse(self.runner.run(["sh", "-c", facts.LOOK, "sh", self.root]).text)
                except PlatformError as error:
                    self._facts = error
        if isinstance(self._facts, PlatformError):
            raise self._facts
        return self._facts

    def require_docker(self, again: bool = False) -> None:
        """Looked at until it is there; `again`: it may have stopped since. Raises PreflightError for a host that cannot run us: no
        Docker, old Compose, no rights.
        """
        if again or not self._has_docker:
            self._look_for_docker("answers" if self.engine.answers and not again else "")
            self._has_docker = True

    def _look_for_docker(self, known: str = "") -> None:
        text = self.runner.run(["sh", "-c", facts.LOOK_FOR_DOCKER, "sh", known]).text
        facts.check_docker(text, self.facts(), self.runner.place, self.root)

    def sh(
        self, script: str, *words: str, stdin: bytes = b"", check: bool = True, seconds: float = 600
    ) -> Result:
        """Run a script of ours as a user with the rights for it."""
        return self.run("sh", "-c", script, "sh", *words, stdin=stdin, check=check, seconds=seconds)

    def docker(self, *words: str, stdin: bytes = b"", check: bool = True, seconds: float = 600) -> Result:
        return self.run("docker", *words, stdin=stdin, check=check, seconds=seconds)

    def run(self, *words: str, stdin: bytes = b"", check: bool = True, seconds: float = 600) -> Result:
        """As root, or by sudo where the user has it. Raises CommandFailed."""
        return self.runner.run([*self._rise(), *words], stdin, check=check, seconds=seconds)

    def docker_words(self, *words: str) -> list[str]:
        """For a stream with the operator's terminal."""
        return [*self._rise(), "docker", *words]

    def receive(self, file: Path, *words: str) -> None:
        """Save the output of a docker command to a local file (mode 0600), atomically. Raises ApplyError."""
        partial = file.with_name(f".{file.name}.part")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
            with self.runner.start(self.docker_words(*words)) as process:
                assert process.stdout
                shutil.copyfileobj(process.stdout, sink, 1 << 20)
            os.fsync(sink.fileno())
        if process.returncode:
            partial.unlink()
            raise ApplyError(
                f"{self.runner.place}: docker {words[0]} ended with {process.returncode}",
                "its output is above",
            )
        partial.rename(file)

    def send(self, file: Path, path: str) -> None:
        """Copy a local file to the host (mode 0600), atomically. Raises ApplyError."""
        script = 'umask 077; mkdir -p "$(dirname "$1")" && cat >"$1.part" && mv "$1.part" "$1"'
        with (
            file.open("rb") as source,
            self.runner.start([*self._rise(), "sh", "-c", script, "sh", path]) as process,
        ):
            assert process.stdin
            shutil.copyfileobj(source, process.stdin, 1 << 20)
            process.stdin.close()
        if process.returncode:
            raise ApplyError(f"{self.runner.place}: {path} cannot be written", "is its disk full?")

    def _rise(self) -> list[str]:
        return ["sudo", "-n"] if self.facts().sudo else []

    def read_folder(self, folder: str) -> dict[str, bytes]:
        """Path below it → contents of every file; empty when it does not exist."""
        return unpacked(self.sh(_READ, folder).stdout)

    def containers(self, **labels: str) -> list[dict[str, Any]]:
        """`docker inspect` of every container with these labels of ours, running or not."""
        return self.engine.containers({f"prefect-platform.{name}": value for name, value in labels.items()})

    # -- changing it
    def lay(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files below a folder, each whole."""
        self.sh(_LAY, folder, stdin=_archive(files, 0o644))

    def lay_private(self, folder: str, files: Mapping[str, bytes], owner: str, image: str) -> None:
        """Write files that only `owner` (uid:gid) may read. A user without root on the host does it in a container of `image`."""
        data = _archive(files, 0o600)
        if self.facts().privileged:
            self.sh(f'mkdir -p "$1" && cd "$1" && {_LAY_PRIVATE}', folder, owner, stdin=data)
            return
        self.sh('mkdir -p "$1"', folder)
        self.docker(*_as_root(folder, image), f"cd /x && {_LAY_PRIVATE}", "sh", "", owner, stdin=data)

    def read_private(self, folder: str, image: str) -> dict[str, bytes]:
        """What lay_private wrote; empty when it does not exist."""
        if self.facts().privileged:
            return self.read_folder(folder)
        if self.sh('[ -d "$1" ]', folder, check=False).code:
            return {}
        return unpacked(self.docker(*_as_root(folder, image), "tar -C /x -cf - .").stdout)

    def delete(self, folder: str, image: str) -> None:
        """Delete a folder and its contents, whoever owns them."""
        there = self.sh('[ -d "$1" ]', folder, check=False).code == 0
        if there and not self.facts().privileged:
            self.docker(*_as_root(folder, image), "rm -rf /x/* /x/.[!.]*")
        self.sh('rm -rf "$1"', folder)

    def switch(self, folder: str, release: str) -> None:
        """Make a release the current one, in one step."""
        self.sh(f'rm -f "$1/.current.tmp"; {_SWITCH}', folder, release)

    def append(self, file: str, line: str) -> None:
        self.sh('mkdir -p "$(dirname "$1")" && cat >>"$1"', file, stdin=line.encode() + b"\n")

    @contextlib.contextmanager
    def lock(self, folder: str, holder: str, seconds: float, say: Callable[[str], None]) -> Iterator[None]:
        """One writer per folder, waiting at most `seconds`. Raises LockedError naming the holder."""
        words = [*self._rise(), "sh", "-c", _LOCK, "sh", folder, holder, str(int(seconds))]
        with self.runner.start(words) as process:
            assert process.stdin
            self._wait_held(process, seconds, say, folder)
            done = threading.Event()
            beat = threading.Thread(target=_beat, args=(process, done), daemon=True)
            beat.start()
            try:
                yield
            finally:
                done.set()
                beat.join()

    def _wait_held(
        self, process: subprocess.Popen[bytes], seconds: float, say: Callable[[str], None], folder: str
    ) -> None:
        assert process.stdout
        said = process.stdout.readline().decode(errors="replace").strip()
        other = said.removeprefix("busy ") if said.startswith("busy ") else ""
        if other:
            if seconds:
                say(f"waiting for {other}")
            said = process.stdout.readline().decode(errors="replace").strip()
        if said == "held":
            return
        code = process.wait()
        if code == 9:
            raise LockedError(
                f"{self.runner.place}: in use by {other or 'another command'}",
                "wait for it to end (--wait SECONDS)",
            )
        raise PlatformError(
            f"{self.runner.place}: {folder}/lock cannot be taken ({said or code})", "see docs/vps.md"
        )


def _archive(files: Mapping[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = len(content), mode, int(time.time())
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    """Path → contents of the files in a tar archive."""
    if not data:
        return {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            str(PurePosixPath(member.name)): (tar.extractfile(member) or io.BytesIO()).read()
            for member in tar.getmembers()
            if member.isfile()
        }


def _as_root(folder: str, image: str) -> list[str]:
    """A shell that may do with one folder of the host what root may: `docker run` words, up to its script."""
    rights = [word for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER") for word in ("--cap-add", name)]
    bare = ["run", "--rm", "-i", "--network", "none", "--cap-drop", "ALL", *rights, "-u", "0:0"]
    return [*bare, "-v", f"{folder}:/x", "--entrypoint", "/bin/sh", image, "-c"]


def _beat(process: subprocess.Popen[bytes], done: threading.Event) -> None:
    assert process.stdin
    while not done.wait(5):
        try:
            process.stdin.write(b".")
            process.stdin.flush()
        except OSError:
            return
