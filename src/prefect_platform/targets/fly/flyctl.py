"""flyctl, non-interactive: every call names the app, secrets go by stdin, and its errors get the next command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from prefect_platform.errors import ApplyError, PlatformError, PreflightError
from prefect_platform.targets.protocol import Say

Json = dict[str, Any]
_AWAY = (
    *("no such host", "connection refused", "connection reset", "i/o timeout", "network is unreachable"),
    *("TLS handshake timeout", "context deadline exceeded", "unexpected EOF", "server misbehaving"),
)
_NO_ROOM = "existing volume"
"""Of "insufficient resources to create new machine with existing volume": a volume is on one host for good. Source: answers of Fly's Machines API."""
_NO_LOGIN = ("No access token available", "not authenticated", "unauthorized", "token validation error")


class Unreachable(PlatformError):
    """Fly does not answer, or no longer does: what was done stays; run it again to resume."""


class NoApp(PreflightError):
    """There is no such app, or this login does not see it."""


class NoRoom(ApplyError):
    """The host that the volume is on has no room for the machine."""


class Flyctl:
    """The operator's own flyctl and login. Methods raise PreflightError, Unreachable, ApplyError."""

    def __init__(self, app: str, say: Say) -> None:
        self.app = app
        self.say = say

    # -- calls
    def call(self, *words: str, stdin: str = "", seconds: float = 300) -> str:
        """Its stdout."""
        try:
            done = subprocess.run(
                [self._program(), *words],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                env=_environment(),
                umask=0o077,
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(
                f"flyctl {_shown(words)}: did not finish within {seconds:.0f} s", "run the command again"
            ) from None
        if done.returncode:
            raise self.refusal(words, done.stderr or done.stdout)
        return done.stdout

    def json(self, *words: str) -> Any:
        text = self.call(*words, "--json")
        try:
            return json.loads(text or "null")
        except ValueError:
            raise ApplyError(
                f"flyctl {_shown(words)}: its output is not JSON: {text[:200]}",
                "update it: fly version update",
            ) from None

    def shown(self, *words: str, folder: Path) -> None:
        """Run it, passing on what it says as it says it."""
        last = deque[str](maxlen=40)
        command = [self._program(), *words]
        with subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
        ) as process:
            for line in cast(Iterator[str], process.stdout):
                last.append(line.rstrip())
                self.say(f"  fly: {line.rstrip()}")
        if process.returncode:
            # All of it was seen: what counts is how it ended.
            ended = next((at for at, line in enumerate(last) if line.startswith("Error")), -10)
            raise self.refusal(words, "\n".join(list(last)[ended:]))

    def refusal(self, words: Sequence[str], said: str) -> PlatformError:
        """What went wrong, in the words of flyctl, and what to do about it."""
        text = said.strip()[-1500:] or "no output"
        if any(sign in said for sign in _NO_LOGIN):
            return PreflightError(
                f"flyctl is not logged in: {text}",
                "fly auth login, or set FLY_API_TOKEN (made by: fly tokens create deploy); then run the command again",
            )
        if "Could not find App" in said:
            return NoApp(
                f"app {self.app} does not exist, or this login cannot see it",
                "./invoke prefect.setup creates it; fly auth whoami shows your login",
            )
        if any(sign in said for sign in _AWAY):
            return Unreachable(
                f"Fly cannot be reached (flyctl {_shown(words)}): {text}",
                "run the command again when the network is back, to resume",
            )
        if _NO_ROOM in said and "insufficient" in said:
            return NoRoom(
                f"flyctl {_shown(words)}: {text}",
                f"try again later; or move the volume: fly volumes list -a {self.app}, fly volumes fork ID -a {self.app}, fly volumes destroy ID of the first one, then ./invoke prefect.setup",
            )
        return ApplyError(f"flyctl {_shown(words)}: {text}", "see Fly's output above, then run it again")

    def _program(self) -> str:
        own = Path.home() / ".fly" / "bin" / "flyctl"
        found = shutil.which("flyctl") or shutil.which("fly") or (str(own) if own.exists() else None)
        if found is None:
            raise PreflightError(
                "flyctl is not installed: target fly needs it",
                "install it (https://fly.io/docs/flyctl/install/), fly auth login, then run the command again",
            )
        return found

    # -- what there is
    def exists(self) -> bool:
        try:
            self.json("status", "-a", self.app)
        except NoApp:
            return False
        return True

    def create(self, org: str | None) -> None:
        try:
            self.json("apps", "create", self.app, *(["--org", org] if org else []))
        except ApplyError as error:
            if "taken" in error.reason:
                raise PreflightError(
                    f"platform.fly.app: the name {self.app!r} is taken on Fly.io, by another user or by an organisation that this login cannot see",
                    "choose another name, or log in as its owner: fly auth whoami",
                ) from None
            if "org" in error.reason:
                raise ApplyError(
                    error.reason, "set platform.fly.org to one of those that fly orgs list shows"
                ) from None
            raise

    def machines(self) -> list[Json]:
        return list(self.json("machine", "list", "-a", self.app) or [])

    def volumes(self) -> list[Json]:
        found = self.json("volumes", "list", "-a", self.app) or []
        return [each for each in found if each["name"] == "data" and each["state"] == "created"]

    def secrets(self) -> dict[str, Json]:
        return {each["name"]: each for each in self.json("secrets", "list", "-a", self.app) or []}

    def releases(self) -> list[Json]:
        return list(self.json("releases", "-a", self.app) or [])

    def regions(self) -> list[str]:
        found = self.json("platform", "regions") or []
        return [str(each.get("code") or each.get("Code")) for each in found]

    # -- inside
    def run(self, machine: str, *words: str, seconds: int = 60) -> tuple[int, str, str]:
        """A command in the machine: (exit code, stdout, stderr). Its words may not need quoting."""
        call = ("machine", "exec", machine, " ".join(words), "--timeout", str(seconds), "-a", self.app)
        done = self.json(*call)
        return int(done.get("exit_code", 0)), str(done.get("stdout", "")), str(done.get("stderr", ""))

    def console(self, command: str) -> int:
        """A command in the machine, as root, with the operator's terminal. Returns flyctl's exit code, which is 1 whatever the command's was."""
        words = [
            "ssh",
            "console",
            "-a",
            self.app,
            "-q",
            *(["--pty"] if sys.stdin.isatty() else []),
            "-C",
            command,
        ]
        return subprocess.call([self._program(), *words], env=_environment())

    def get(self, path: str, file: Path) -> None:
        """A file of the machine, into one here (mode 0600)."""
        partial = file.with_name(f".{file.name}.part")
        partial.unlink(missing_ok=True)  # flyctl does not write over a file
        self.call("ssh", "sftp", "get", path, str(partial), "-a", self.app, seconds=3600)
        partial.rename(file)

    def put(self, file: Path, path: str) -> None:
        """A file of this machine, into one there that must not exist yet; everybody there may read it."""
        self.call("ssh", "sftp", "put", str(file), path, "-a", self.app, seconds=3600)

    def start(self, machine: str) -> None:
        self.call("machine", "start", machine, "-a", self.app)

    def logs(self, follow: bool, since: str = "") -> Iterator[str]:
        """Messages: a stream of JSON objects that are not one to a line. `since` is a moment as `%Y-%m-%dT%H:%M:%S` in UTC."""
        words = [self._program(), "logs", "-a", self.app, "--json", *([] if follow else ["--no-tail"])]
        decoder, text = json.JSONDecoder(), ""
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=_environment()) as process:
            try:
                for line in cast(Iterator[str], process.stdout):
                    text = (text + line).lstrip()
                    while text:
                        try:
                            found, end = decoder.raw_decode(text)
                        except ValueError:
                            break
                        text = text[end:].lstrip()
                        if str(found["timestamp"]) >= since:
                            yield str(found["message"])
            finally:
                process.terminate()


def _environment() -> dict[str, str]:
    return {**os.environ, "FLY_NO_UPDATE_CHECK": "1", "NO_COLOR": "1", "FLY_SEND_METRICS": "0"}


def _shown(words: Sequence[str]) -> str:
    return " ".join(words[:2])
