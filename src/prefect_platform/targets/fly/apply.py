"""Bringing a Fly app to what is declared: app, volume, secrets, image, machine. Interrupted anywhere, the next setup goes on."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect_platform.config.settings import Settings
from prefect_platform.errors import ApplyError, PlatformError, PreflightError
from prefect_platform.files import make_private, write_atomic
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan, wanted_files
from prefect_platform.secretstore.store import SecretStore

from . import render, secrets
from .flyctl import Flyctl, Json, Unreachable

_KEPT = 10
_START_SECONDS = 120
_SHOWN_SECONDS = 5
"""A machine that was made is in Fly's lists by then."""


class Releases:
    """`releases/<tag>/` in the state folder: what each image was built from. It is what a plan is compared with."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "releases"

    def of(self, tag: str) -> Path:
        return self.folder / tag

    def facts(self, tag: str) -> Json:
        """`files` as a plan names them, `services`, `versions`; empty for a release that was made elsewhere."""
        try:
            return dict(json.loads((self.of(tag) / "release.json").read_text()))
        except (OSError, ValueError):
            return {}

    def files(self, tag: str) -> dict[str, bytes]:
        folder = self.of(tag) / "context"
        return {
            name: (folder / place).read_bytes()
            for name, place in self.facts(tag).get("files", {}).items()
            if (folder / place).is_file()
        }

    def write(self, tag: str, bundles: Sequence[Bundle], versions: Mapping[str, str]) -> Path:
        """The build's folder, complete."""
        folder = self.of(tag) / "context"
        shutil.rmtree(folder, ignore_errors=True)
        make_private(self.folder)
        for path, body in render.context(bundles).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        prefix, top = f"{render.MACHINE}/", ("Dockerfile", "fly.toml")
        places = {
            name: name.removeprefix(prefix) if name.removeprefix(prefix) in top else name
            for name in wanted_files(bundles)
        }
        services = {each.full_name: each.facts() for bundle in bundles for each in bundle.services}
        facts = {"files": places, "services": services, "versions": dict(versions)}
        write_atomic(self.of(tag) / "release.json", json.dumps(facts, sort_keys=True).encode())
        return folder

    def prune(self, keep: str) -> None:
        there = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in there[_KEPT:]:
            if old.name != keep:
                shutil.rmtree(old, ignore_errors=True)


class Applying:
    """One application of a plan."""

    def __init__(self, settings: Settings, fly: Flyctl, store: SecretStore, releases: Releases) -> None:
        self.settings = settings
        self.fly = fly
        self.store = store
        self.releases = releases
        self.imported = secrets.Imported(settings.state / "secrets" / "fly-imported.json")

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        stacks = [bundle.stack for bundle in bundles]
        values = self.settings.values["fly"]
        for stack in stacks:
            self.store.ensure(stack)
        if "app" in plan.of("create"):
            self.fly.say(f"creating app {self.fly.app}")
            self.fly.create(values["org"])
        if not self.fly.volumes():
            self._volume()
        self._secrets(bundles)
        versions = {stack.name: self.store.version(stack) for stack in stacks}
        tag = render.tag(render.context(bundles))
        folder = self.releases.write(tag, bundles, versions)
        before = self.fly.machines()
        self._deploy(folder, tag, before)
        self.wake()
        self.releases.prune(tag)

    def _volume(self) -> None:
        values = self.settings.values["fly"]
        self.fly.say(f"creating a volume of {values['volume_gb']} GB in {values['region']}")
        words = ["volumes", "create", "data", "-a", self.fly.app, "-r", values["region"]]
        words += ["-s", str(values["volume_gb"]), "--snapshot-retention", str(values["snapshot_days"])]
        memory = str(render.megabytes(values["memory"]))
        self.fly.json(*words, "--vm-memory", memory, "-y")

    def _secrets(self, bundles: Sequence[Bundle]) -> None:
        """Staged, so that they come with the deploy that follows and restart nothing before it."""
        stacks = [bundle.stack for bundle in bundles]
        names = self.imported.changed(self.store, stacks, self.fly.secrets())
        if not names:
            return
        held = secrets.values(self.store, stacks)
        chosen = {name: held[name] for name in names}
        self.fly.say(f"importing secrets: {', '.join(sorted(chosen))}")
        text = "".join(secrets.line(name, value) for name, value in chosen.items())
        self.fly.call("secrets", "import", "--stage", "-a", self.fly.app, stdin=text)
        self.imported.remember(chosen, self.fly.secrets())

    def _deploy(self, folder: Path, tag: str, before: Sequence[Json]) -> None:
        self.fly.say(f"deploying image {tag}")
        words = ["deploy", ".", "-a", self.fly.app, "-c", "fly.toml", "--remote-only", "--ha=false", "--yes"]
        if self.settings.values["fly"]["private"]:
            words += ["--no-public-ips"]
        began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        try:
            self.fly.shown(*words, "--image-label", tag, folder=folder)
        except Unreachable:
            raise
        except PlatformError as error:
            raise self._kept(f"{error.reason}{self._last_words(began)}", before) from None

    def _last_words(self, since: str) -> str:
        """What the machine said about its end."""
        with contextlib.suppress(PlatformError):
            said = [line.partition(" | ")[2] or line for line in self.fly.logs(follow=False, since=since)]
            for kind in ("server.py: database ", "machine.py: "):
                if found := [line for line in said if line.startswith(kind)]:
                    return f"; the machine said: {found[-1]}"
        return ""

    def _kept(self, reason: str, before: Sequence[Json]) -> ApplyError:
        """A failed deploy may leave the machine with the new image; what ran before must run again."""
        was = before[0] if before else None
        hint = f"./invoke prefect.logs --env {self.settings.env}; mend the cause, then ./invoke prefect.setup"
        if was is None:
            return ApplyError(f"the deploy failed, and no release ran before it: {reason}", hint)
        label = reference(was)
        now = self.fly.machines()
        if not now or reference(now[0]) != label:
            self.fly.say("the deploy failed: going back to the release that ran before")
            self.roll_back(label)
        return ApplyError(f"the deploy failed, the release before it runs: {reason}", hint)

    def roll_back(self, image: str) -> None:
        """Deploy an image that is there already, with the settings it had, where they are known."""
        folder = self.releases.of(image.rpartition(":")[2]) / "context"
        if not (folder / "fly.toml").exists():
            raise ApplyError(
                f"release {image} was not made from here: its settings are not known",
                f"fly deploy --image {image} -a {self.fly.app}, with the fly.toml it had",
            )
        words = ["deploy", "--image", image, "-a", self.fly.app, "-c", "fly.toml", "--ha=false", "--yes"]
        self.fly.shown(*words, "--strategy", "immediate", folder=folder)
        self.wake()

    def wake(self) -> Json:
        """A deploy leaves a sleeping machine asleep. Returns it, started. Raises PreflightError where there is none, ApplyError."""
        began = time.monotonic()
        asked = False
        while True:
            machines = self.fly.machines()
            waited = time.monotonic() - began
            if machines and machines[0]["state"] == "started":
                return machines[0]
            if machines and machines[0]["state"] in ("stopped", "suspended", "created") and not asked:
                self.fly.start(machines[0]["id"])
                asked = True
            elif not machines and waited > _SHOWN_SECONDS:
                raise PreflightError(f"app {self.fly.app} has no machine", "./invoke prefect.setup makes one")
            elif waited > _START_SECONDS:
                raise ApplyError(
                    f"the machine does not start, it is {machines[0]['state']}",
                    f"./invoke prefect.logs --env {self.settings.env}",
                )
            else:
                time.sleep(0.5)


def reference(machine: Json) -> str:
    """registry/repository:tag of the machine's image."""
    found = machine.get("image_ref") or {}
    return f"{found.get('registry', '')}/{found.get('repository', '')}:{found.get('tag', '')}"
