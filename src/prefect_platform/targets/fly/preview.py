"""The Fly machine in a Docker engine of this computer: same image, same limits, same way in, and nothing of the real one's data or keys."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import docker
from docker.errors import APIError, DockerException, NotFound

from prefect_platform.config.settings import Settings
from prefect_platform.errors import ApplyError, PreflightError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Observed, Plan
from prefect_platform.targets.protocol import Say

from . import render, target
from .flyctl import Json

LABEL = "prefect-platform.fly-preview"
_DIFFERENCES = (
    "the preview has its own keys, tokens and volume; the app on Fly is not contacted",
    "different from Fly: the address, no auto_stop, SQLite instead of database_url, no replica",
)
SECRETS = "platform-secrets.json"
"""Where machine.py finds them: an engine shows a container's variables to whoever may ask it."""


class Engine:
    """What the target asks flyctl, answered by the engine that DOCKER_HOST or Docker's own default names."""

    def __init__(self, app: str, say: Say) -> None:
        self.app, self.say = app, say
        self.name = f"prefect-platform-preview-{app}"
        try:
            self.docker = docker.from_env(timeout=600)
            self.docker.ping()
        except DockerException as error:
            raise PreflightError(
                f"no Docker engine answers: {error}",
                "start one or set DOCKER_HOST (target local needs none)",
            ) from None

    def container(self) -> Any | None:
        try:
            return self.docker.containers.get(self.name)
        except NotFound:
            return None

    def exists(self) -> bool:
        return self.container() is not None

    def machines(self) -> list[Json]:
        found = self.container()
        state = {"running": "started"}.get(found.status, "stopped") if found else ""
        return [{"id": self.name, "state": state, "image_ref": {"tag": found.labels[LABEL]}}] if found else []

    def run(self, machine: str, *words: str, seconds: int = 60) -> tuple[int, str, str]:
        """As `fly machine exec`: as root."""
        done = cast(Any, self.container()).exec_run(list(" ".join(words).split()), demux=True, user="0")
        out, error = (part.decode(errors="replace") if part else "" for part in done.output)
        return int(done.exit_code), out, error

    def start(self, machine: str) -> None:
        # Its secrets were in memory alone.
        raise ApplyError("the preview has ended", "./invoke fly.preview recreates it")

    def logs(self, follow: bool) -> Iterator[str]:
        for line in cast(Any, self.container()).logs(stream=True, follow=follow):
            yield line.decode(errors="replace").rstrip("\n")

    # -- making one
    def build(self, folder: Path, tag: str) -> None:
        """Shows its steps. Raises ApplyError with the end of what was said."""
        last = ""
        for line in self.docker.api.build(
            path=str(folder), tag=tag, labels={LABEL: self.app}, rm=True, decode=True
        ):
            if text := str(line.get("stream", "")).strip():
                last = text
                if text.startswith("Step "):
                    self.say(f"  {text[:140]}")
            if "error" in line:
                raise ApplyError(f"the image cannot be built: {line['error'].strip()}\n{last}", "see above")

    def create(self, tag: str, secrets: Mapping[str, str], memory: int, port: int, inside: int) -> None:
        self.remove(data=False)
        made = self.docker.containers.create(
            tag,
            name=self.name,
            labels={LABEL: tag.partition(":")[2]},
            environment={"FLY_APP_NAME": self.app, "FLY_MACHINE_ID": "preview", "FLY_REGION": "here"},
            mem_limit=memory,
            memswap_limit=memory,
            volumes={self.name: {"bind": "/data", "mode": "rw"}},
            ports={f"{inside}/tcp": ("127.0.0.1", port)},
            sysctls={"net.ipv4.tcp_migrate_req": "1"},
        )
        body = json.dumps(secrets).encode()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo(SECRETS)
            entry.size, entry.mode = len(body), 0o400
            tar.addfile(entry, io.BytesIO(body))
        made.put_archive("/", archive.getvalue())
        try:
            made.start()
        except APIError as error:
            made.remove(force=True)
            hint = f"./invoke fly.preview --port PORT; is {port} free?"
            raise ApplyError(f"the preview cannot be started: {error.explanation}", hint) from None

    def remove(self, data: bool) -> None:
        if found := self.container():
            found.stop(timeout=60)
            found.remove(force=True)
        if not data:
            return
        with contextlib.suppress(NotFound):
            self.docker.volumes.get(self.name).remove()
        for image in self.docker.images.list(filters={"label": f"{LABEL}={self.app}"}):
            self.docker.images.remove(str(image.id), force=True)

    def memory(self) -> int:
        """Bytes in use, as the engine counts them; 0 where it does not."""
        stats = cast(Any, self.container()).stats(stream=False)
        return int(stats.get("memory_stats", {}).get("usage", 0))


class PreviewTarget(target.Target):
    """The target fly, with a local engine as its Fly. Its settings come from `settings_instead`."""

    def __init__(self, settings: Settings, say: Say, port: int) -> None:
        super().__init__(settings, say)
        self.port = port
        self.engine = Engine(self.app, say)
        self.fly = cast(Any, self.engine)
        self.applying.fly = self.fly

    def observe(self, bundles: Sequence[Bundle]) -> Observed:
        """Nothing is compared: it is created again each time."""
        stacks = [bundle.stack for bundle in bundles]
        missing = {stack.name: tuple(spec.name for spec in self.store.missing(stack)) for stack in stacks}
        versions = {stack.name: self.store.version(stack) for stack in stacks}
        return Observed(True, {}, {}, missing, versions)

    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """The engine has answered."""

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        stacks = [bundle.stack for bundle in bundles]
        for stack in stacks:
            self.store.ensure(stack)
        context = render.context(bundles)
        label = render.tag(context)
        tag = f"prefect-platform-preview/{self.app}:{label}"
        with tempfile.TemporaryDirectory() as folder:
            for path, body in context.items():
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / path).write_bytes(body)
            self.say(f"building image {tag}")
            self.engine.build(Path(folder), tag)
        held = {name: secret.value for stack in stacks for name, secret in self.store.values(stack).items()}
        inside = self.settings.values["gateway"]["port"]
        self.engine.create(tag, held, self._limit, self.port, inside)
        self.made.write(label, bundles, {})

    def differences(self) -> tuple[str, ...]:
        return _DIFFERENCES

    def memory_use(self) -> tuple[int, int]:
        """Bytes in use (0 if the engine does not count), and the limit."""
        return self.engine.memory(), self._limit

    @property
    def _limit(self) -> int:
        return render.megabytes(self.settings.values["fly"]["memory"]) << 20

    def end(self) -> None:
        """Remove the machine, its volume, its image and its keys."""
        self.engine.remove(data=True)
        shutil.rmtree(self.settings.state, ignore_errors=True)


def settings_instead(port: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the real machine: its address, and that it neither sleeps nor touches what the real one writes to."""
    return {
        "state": f"{values['state']}/preview",
        "gateway": {"public_url": f"http://127.0.0.1:{port}"},
        "prefect": {"database_url": None, "replica": None},
        "fly": {"auto_stop": "off"},
        "vault": {"address": None},
    }
