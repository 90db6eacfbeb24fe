"""Target `fly`: one Fly.io machine. The stacks of a single machine in one image, their databases on a volume; flyctl does what is done."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from prefect_platform.config import private_app
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError, PlatformError, ProgramFailed
from prefect_platform.files import delete_folder
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Observed, Plan
from prefect_platform.planning.where import Where
from prefect_platform.targets import launched
from prefect_platform.targets.combined import lock, sqlite
from prefect_platform.targets.protocol import LOW_BYTES, Entry, Estimate, Preview, Process, Say

from . import cost, render, secret_values, sleeping, transit
from .apply import Applying
from .flyctl import Flyctl, Json
from .observe import Observing
from .releases import Releases, reference
from .traits import TRAITS

_MACHINE = "/usr/local/bin/python -I /platform/machine/machine.py"
_RESULTS = {"complete": "good", "succeeded": "good", "failed": "failed", "interrupted": "failed"}


class Target:
    """See targets.Target."""

    traits = TRAITS

    def __init__(self, settings: Settings, say: Say) -> None:
        render.check(settings)
        self.settings = settings
        self.say = say
        self.app = settings.values["fly"]["app"]
        self.store = secret_values.store_of(settings)
        self.made = Releases(settings.state)
        self.fly = Flyctl(self.app, say)
        self.applying = Applying(settings, self.fly, self.store, self.made)
        self.observing = Observing(settings, self.fly, self.store, self.made, self.applying.imported)

    def lock(self, command: str, wait: float) -> AbstractContextManager[None]:
        """One writer on this machine; between machines Fly's own lease of the machine decides. Raises LockedError."""
        return lock.hold(self.settings.state, command, wait, self.say)

    def where(self, stack: str, scope: str = "environment") -> Where:
        return render.where(stack, private_app.private(self.settings))

    def adapt(self, bundles: list[Bundle]) -> list[Bundle]:
        return [*bundles, render.machine(self.settings, bundles)]

    def established(self) -> list[str]:
        """All of them, always: the image is one."""
        return [self.settings.roles.main]

    # -- observing
    def observe(self, bundles: Sequence[Bundle]) -> Observed:
        return self.observing.observe([bundle.stack for bundle in bundles])

    def notes(self) -> tuple[str, ...]:
        return sleeping.notes(self.settings.values)

    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Raises PreflightError: no flyctl, no login (observing found those), no such region."""
        self.observing.check_region(plan)

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Do the steps. Interrupted anywhere, the next observe sees what is left to do."""
        if plan.steps:
            self.applying.apply(plan, bundles)

    # -- before it costs anything
    def estimate(self, hours: float) -> Estimate:
        return cost.estimate(self.settings.values["fly"], hours)

    def preview_settings(self, port: int) -> dict[str, Any]:
        from .preview import settings_instead

        return settings_instead(port, self.settings.values)

    def preview(self, port: int) -> Preview:
        # Imported here: it needs the Docker SDK, which nothing else of this target does.
        from .preview import PreviewTarget

        return PreviewTarget(self.settings, self.say, port)

    # -- using
    def wake(self) -> bool:
        machines = self.fly.machines() if self.fly.exists() else []
        if not machines or machines[0]["state"] == "started":
            return False
        self.applying.wake()
        return True

    def _inside(self, *words: str) -> str:
        """machine.py's answer; wakes the machine. Raises PlatformError with its output."""
        machine = self.applying.wake()
        code, out, error = self.fly.run(machine["id"], _MACHINE, *words)
        if code:
            raise ProgramFailed((error or out).strip() or f"{words[0]} ended with {code}", code)
        return out

    def status(self) -> Json:
        return dict(json.loads(self._inside("status")))

    def processes(self) -> list[Process]:
        """None where there is no machine. Of one that exits before it can be asked, those that it should run."""
        if not (self.fly.exists() and self.fly.machines()):
            return []
        known = self.known()
        try:
            infos = self.status()["processes"]
        except PlatformError as error:
            why = f"the machine does not stay up: {error.reason}"
            return [Process(stack, service, "UNKNOWN", 0, 0, 0, why) for stack, service in known]
        names = {f"{stack}-{service}": (stack, service) for stack, service in known}
        found = []
        for info in infos:
            age = int(info["now"] - info["start"]) if info["pid"] else 0
            running = info["statename"] == "RUNNING"
            # Images of earlier versions do not say it.
            said = launched.described(info.get("launched", ""))
            detail = said if running else info["spawnerr"] or info["description"]
            state = info["statename"]
            stack, service = names.get(info["name"], ("", info["name"]))
            found.append(Process(stack, service, state, info["pid"], age, info["memory"], detail))
        return found

    def memory(self) -> int:
        """No stack here takes a share of the machine's."""
        return 0

    def room(self) -> int:
        """Free bytes on the volume; enough while there is no machine to ask."""
        if not (self.fly.exists() and self.fly.machines()):
            return LOW_BYTES
        try:
            return int(self.status()["free"])
        except PlatformError:
            return LOW_BYTES

    def run_in(self, stack: str, argv: Sequence[str]) -> str:
        return self._inside("run", stack, _packed(argv))

    def tail(self, service: str, lines: int) -> list[str]:
        return [line for _, line in self._lines([service], follow=False)][-lines:]

    def follow(self, services: Sequence[str]) -> Iterator[tuple[str, str]]:
        return self._lines(services, follow=True)

    def _lines(self, services: Sequence[str], follow: bool) -> Iterator[tuple[str, str]]:
        for message in self.fly.logs(follow):
            name, separator, line = message.partition(" | ")
            if separator and name in services:
                yield name, line

    def stop(self, services: Sequence[str]) -> None:
        """These processes; with none named, the machine."""
        if services:
            self._inside("stop", *services)
        else:
            for machine in self.fly.machines():
                self.fly.call("machine", "stop", machine["id"], "-a", self.app)

    def restart(self, services: Sequence[str]) -> None:
        self._inside("restart", *services)

    def known(self) -> list[tuple[str, str]]:
        """(stack, service) of what the machine's image runs."""
        machines = self.fly.machines() if self.fly.exists() else []
        tag = str(machines[0].get("image_ref", {}).get("tag", "")) if machines else ""
        services = self.made.facts(tag).get("services", {}) if tag else {}
        return sorted((facts["stack"], facts["name"]) for facts in services.values())

    def execute(self, service: str, words: Sequence[str]) -> int:
        """As the process runs, with the operator's terminal."""
        self.applying.wake()
        return self.fly.console(f"{_MACHINE} exec {service} {_packed(words)}")

    # -- releases
    def history(self) -> list[Entry]:
        return [_entry(each) for each in reversed(self.fly.releases())]

    def releases(self, stack: Stack) -> list[tuple[str, bool, Entry | None]]:
        found = self.fly.releases()
        good = [each for each in found if _RESULTS.get(str(each["Status"])) == "good"]
        current = good[0]["Version"] if good else None
        return [(f"v{each['Version']}", each["Version"] == current, _entry(each)) for each in found]

    def roll_back(self, stack: Stack, wanted: str, restore: bool) -> str:
        """Run an earlier image. Secrets and data stay as they are. Raises ConfigError."""
        if restore:
            raise ConfigError("--restore: not on target fly; restore a volume snapshot (docs/fly.md)")
        machines = self.fly.machines()
        now = reference(machines[0]) if machines else ""
        good = [each for each in self.fly.releases() if _RESULTS.get(str(each["Status"])) == "good"]
        fits = [
            each
            for each in good
            if (f"v{each['Version']}" == wanted if wanted else str(each["ImageRef"]).partition("@")[0] != now)
        ]
        if not fits:
            there = ", ".join(f"v{each['Version']}" for each in good) or "none"
            raise ConfigError(
                f"{f'--to {wanted}: no such good release' if wanted else 'no other good release'}; good releases: {there}",
                "./invoke prefect.releases",
            )
        self.applying.roll_back(str(fits[0]["ImageRef"]).partition("@")[0])
        return f"v{fits[0]['Version']}"

    def backup(self, stack: Stack, folder: Path, label: str) -> Path:
        """A consistent copy while all runs, brought here; returns the file."""
        file = folder / f"{stack.name}-{label}.db"
        with transit.passing(self, stack) as there:
            sqlite.copy(self, stack, there)
            self.fly.get(there, file)
        return file

    def restore(self, stack: Stack, file: Path) -> str:
        """A backup's copy in the place of the database, which is kept on the volume: returned. Raises PreflightError before anything stops."""
        with (
            transit.server_down_if_it_exits(self, sqlite.server(stack)),
            transit.passing(self, stack) as there,
        ):
            self.fly.put(file, there)
            sqlite.check(self, stack, there)
            return sqlite.replace(self, stack, there)

    def removal(self, stack: str, data: bool) -> str:
        return f"app {self.app}: " + (
            "with its machine, volume, secrets and address, and its release records here"
            if data
            else "its machine; volume and secrets stay"
        )

    def remove(self, stacks: Mapping[str, Stack], stack: str, data: bool) -> None:
        """The machine; with `data` the app and all that is its own."""
        if not self.fly.exists():
            raise ConfigError(f"app {self.app} is not there: nothing to remove")
        if data:
            self.fly.call("apps", "destroy", self.app, "-y")
            for folder in ("releases", "secrets"):
                delete_folder(self.settings.state / folder)
            return
        for machine in self.fly.machines():
            self.fly.call("machine", "destroy", machine["id"], "--force", "-a", self.app)


def _packed(words: Sequence[str]) -> str:
    """As machine.py unpacks them."""
    return base64.urlsafe_b64encode(json.dumps(list(words)).encode()).decode()


def _entry(release: Json) -> Entry:
    user = (release.get("User") or {}).get("Email", "")
    state = str(release["Status"])
    detail = f"{release.get('Description') or ''} {release.get('ImageRef') or ''}".strip()
    return Entry(
        str(release["CreatedAt"]),
        user,
        "deploy",
        f"v{release['Version']}",
        _RESULTS.get(state, state),
        detail,
    )
