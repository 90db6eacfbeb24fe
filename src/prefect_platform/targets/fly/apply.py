"""Brings a Fly app to its configuration: app, volume, secrets, image, machine. Interrupted anywhere, the next setup resumes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from prefect_platform.config.settings import Settings
from prefect_platform.errors import ApplyError, PlatformError, PreflightError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan
from prefect_platform.secretstore.store import SecretStore
from prefect_platform.targets.fly.releases import Releases, reference

from . import render, secret_values
from .flyctl import Flyctl, Json, NoRoom, Unreachable

_START_SECONDS = 120
_HEALTHY_SECONDS = 30
"""Fly asks every 15 s, and a server on a small machine needs 10 s. Then what is looked at tells what is wrong."""
_HOSTS = 3
"""How many are tried for a volume on which nothing is yet."""
_SHOWN_SECONDS = 5
"""A machine that was made is in Fly's lists by then."""


class Applying:
    """One application of a plan."""

    def __init__(self, settings: Settings, fly: Flyctl, store: SecretStore, releases: Releases) -> None:
        self.settings = settings
        self.fly = fly
        self.store = store
        self.releases = releases
        self.empty = ""
        """The volume that this setup created, until a machine runs on it."""
        self.waited = False
        """For a machine's health, once: one that keeps exiting is started again at each question."""
        self.imported = secret_values.Imported(settings.state / "secrets" / "fly-imported.json")

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        stacks = [bundle.stack for bundle in bundles]
        values = self.settings.values["fly"]
        for stack in stacks:
            self.store.ensure(stack)
        if "app" in plan.of("create"):
            self.fly.say(f"creating app {self.fly.app}")
            self.fly.create(values["org"])
        if not self.fly.volumes():
            self.empty = self._volume()
        self._secrets(bundles)
        versions = {stack.name: self.store.version(stack) for stack in stacks}
        tag = render.tag(render.context(bundles))
        folder = self.releases.write(tag, bundles, versions)
        before = self.fly.machines()
        self._deploy(folder, tag, before)
        self.wake()
        self.releases.prune(tag)

    def _volume(self) -> str:
        """The id of a new one. Fly puts it on another host than those that the app has."""
        values = self.settings.values["fly"]
        self.fly.say(f"creating a volume of {values['volume_gb']} GB in {values['region']}")
        words = ["volumes", "create", "data", "-a", self.fly.app, "-r", values["region"]]
        words += ["-s", str(values["volume_gb"]), "--snapshot-retention", str(values["snapshot_days"])]
        memory = str(render.megabytes(values["memory"]))
        return str(self.fly.json(*words, "--vm-memory", memory, "-y")["id"])

    def _secrets(self, bundles: Sequence[Bundle]) -> None:
        """Staged, so that they come with the deploy that follows and restart nothing before it."""
        stacks = [bundle.stack for bundle in bundles]
        names = self.imported.changed(self.store, stacks, self.fly.secrets())
        if not names:
            return
        held = secret_values.values(self.store, stacks)
        chosen = {name: held[name] for name in names}
        self.fly.say(f"importing secrets: {', '.join(sorted(chosen))}")
        text = "".join(secret_values.line(name, value) for name, value in chosen.items())
        self.fly.call("secrets", "import", "--stage", "-a", self.fly.app, stdin=text)
        self.imported.remember(chosen, self.fly.secrets())

    def _deploy(self, folder: Path, tag: str, before: Sequence[Json]) -> None:
        self.fly.say(f"deploying image {tag}")
        words = ["deploy", ".", "-a", self.fly.app, "-c", "fly.toml", "--remote-only", "--ha=false", "--yes"]
        if self.settings.values["fly"]["private"]:
            words += ["--no-public-ips"]
        began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        try:
            self._place(*words, "--image-label", tag, folder=folder)
        except Unreachable:
            raise
        except NoRoom as error:
            raise self._kept(error.reason, before, error.hint) from None
        except PlatformError as error:
            raise self._kept(f"{error.reason}{self._last_words(began)}", before) from None

    def _place(self, *words: str, folder: Path) -> None:
        """Deploy. Where the volume is on a host without room for the machine and nothing is on it, another one takes its place. Raises NoRoom."""
        for _ in range(_HOSTS - 1):
            try:
                return self.fly.shown(*words, folder=folder)
            except NoRoom:
                if not self.empty:
                    raise
                self.fly.say(
                    f"the host of the new volume {self.empty} has no room for the machine: trying another host"
                )
                full, self.empty = self.empty, self._volume()
                self.fly.call("volumes", "destroy", full, "-a", self.fly.app, "-y")
        return self.fly.shown(*words, folder=folder)

    def _last_words(self, since: str) -> str:
        """The machine's own output about its end."""
        with contextlib.suppress(PlatformError):
            said = [line.partition(" | ")[2] or line for line in self.fly.logs(follow=False, since=since)]
            for kind in ("server.py: database ", "machine.py: "):
                if found := [line for line in said if line.startswith(kind)]:
                    return f"; the machine said: {found[-1]}"
        return ""

    def _kept(self, reason: str, before: Sequence[Json], hint: str = "") -> ApplyError:
        """A failed deploy may leave the machine with the new image; what ran before must run again."""
        was = before[0] if before else None
        hint = (
            hint
            or f"./invoke prefect.logs --env {self.settings.env}; fix the cause, then ./invoke prefect.setup"
        )
        if was is None:
            return ApplyError(f"the deploy failed, and no release ran before it: {reason}", hint)
        label = reference(was)
        try:
            now = self.fly.machines()
            if not now or reference(now[0]) != label:
                self.fly.say("the deploy failed: redeploying the previous release")
                self.roll_back(label)
                now = self.fly.machines()
        except PlatformError as also:
            said = f"the deploy failed: {reason}\nthe previous release was not brought back: {also.reason}"
            return ApplyError(said, f"{also.hint}; {hint}" if also.hint else hint)
        state = now[0]["state"] if now else "gone"
        kept = "is running" if state == "started" else f"is deployed, its machine is {state}"
        return ApplyError(f"the deploy failed; the previous release {kept}: {reason}", hint)

    def roll_back(self, image: str) -> None:
        """Deploy an existing image, with the settings it had, if known."""
        folder = self.releases.of(image.rpartition(":")[2]) / "context"
        if not (folder / "fly.toml").exists():
            raise ApplyError(
                f"release {image} was not deployed from this clone: its settings are unknown",
                f"fly deploy --image {image} -a {self.fly.app}, with the fly.toml it had",
            )
        words = ["deploy", "--image", image, "-a", self.fly.app, "-c", "fly.toml", "--ha=false", "--yes"]
        self.fly.shown(*words, "--strategy", "immediate", folder=folder)
        self.wake()

    def wake(self) -> Json:
        """A deploy leaves a sleeping machine asleep. Returns it, started, and healthy if it was asleep. Raises PreflightError where there is
        none, ApplyError."""
        began = time.monotonic()
        asked = False
        while True:
            machines = self.fly.machines()
            waited = time.monotonic() - began
            patient = asked and not self.waited and waited < _HEALTHY_SECONDS
            if machines and machines[0]["state"] == "started" and not (patient and not _passes(machines[0])):
                self.waited |= asked
                return machines[0]
            if machines and machines[0]["state"] in ("stopped", "suspended", "created") and not asked:
                self.fly.say("the machine was asleep: starting it")
                self.fly.start(machines[0]["id"])
                asked = True
            elif not machines and waited > _SHOWN_SECONDS:
                raise PreflightError(f"app {self.fly.app} has no machine", "./invoke prefect.setup makes one")
            elif waited > _START_SECONDS:
                raise ApplyError(
                    f"the machine did not start, its state is {machines[0]['state']}",
                    f"./invoke prefect.logs --env {self.settings.env}",
                )
            else:
                time.sleep(0.5)


def _passes(machine: Json) -> bool:
    """Whether Fly has asked after its health and was content. Source: facts on flyctl's `machine list --json`."""
    checks = machine.get("checks") or []
    return bool(checks) and all(check["status"] == "passing" for check in checks)
