"""What there is on Fly, and what the app as a whole still lacks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import PreflightError
from prefect_platform.planning.diff import Observed, Plan, Running, Step
from prefect_platform.secretstore.store import SecretStore

from .flyctl import Flyctl, Json
from .releases import Releases, reference
from .secret_values import Imported


class Observing:
    """Looks; changes nothing."""

    def __init__(
        self, settings: Settings, fly: Flyctl, store: SecretStore, releases: Releases, imported: Imported
    ) -> None:
        self.settings, self.fly, self.store = settings, fly, store
        self.releases, self.imported = releases, imported

    def observe(self, stacks: Sequence[Stack]) -> Observed:
        missing = {stack.name: tuple(spec.name for spec in self.store.missing(stack)) for stack in stacks}
        versions = {stack.name: self.store.version(stack) for stack in stacks}
        there = self.fly.exists()
        machines = self.fly.machines() if there else []
        tag = str(machines[0].get("image_ref", {}).get("tag", "")) if machines else ""
        known = self.releases.facts(tag) if tag else {}
        running = {
            name: Running(facts["stack"], "RUNNING", 1, facts, known["versions"].get(facts["stack"], ""))
            for name, facts in known.get("services", {}).items()
        }
        more = self._more(stacks, machines, missing) if there else self._all(stacks)
        return Observed(True, self.releases.files(tag), running, missing, versions, more)

    def _all(self, stacks: Sequence[Stack]) -> tuple[Step, ...]:
        """What an app lacks that does not exist."""
        names = [spec.name for stack in stacks for spec in stack.secrets]
        return (
            Step("create", "app", f"{self.fly.app}: not there yet"),
            self._volume_step(),
            *(Step("import", f"secret {name}", "not there yet") for name in names),
            Step("deploy", "machine", "there is none yet"),
        )

    def _volume_step(self) -> Step:
        size, region = (self.settings.values["fly"][key] for key in ("volume_gb", "region"))
        return Step("create", "volume", f"{size} GB in {region}")

    def _more(
        self, stacks: Sequence[Stack], machines: Sequence[Json], missing: Mapping[str, tuple[str, ...]]
    ) -> tuple[Step, ...]:
        """App-wide steps. Raises PreflightError for a volume elsewhere, and for secrets that only Fly has."""
        steps, secrets = [], self.fly.secrets()
        given = {name for stack in stacks for name in self.store.new_given(stack, os.environ)}
        lost = sorted(({name for names in missing.values() for name in names} & set(secrets)) - given)
        if lost and machines:
            raise PreflightError(
                f"app {self.fly.app} has {', '.join(lost)} already, which this clone lacks; new ones would invalidate every token and make stored blocks unreadable",
                f"copy {self.settings.state / 'secrets'} from where the app was set up, then run the command again",
            )
        volumes = self.fly.volumes()
        self._check_place(volumes)
        if not volumes:
            steps.append(self._volume_step())
        imports = self.imported.changed(self.store, stacks, secrets)
        # What is given or generated first is imported too.
        imports |= dict.fromkeys(sorted(given & set(secrets)), "changed")
        imports |= {
            name: "not there yet" for names in missing.values() for name in names if name not in imports
        }
        steps += [Step("import", f"secret {name}", why) for name, why in imports.items()]
        if not machines:
            steps.append(Step("deploy", "machine", "there is none yet"))
        elif any(each.get("status") == "Staged" for each in secrets.values()):
            steps.append(Step("deploy", "machine", "secrets are staged for it"))
        elif not self.releases.facts(str(machines[0].get("image_ref", {}).get("tag", ""))):
            steps.append(Step("deploy", "machine", f"{reference(machines[0])} was not made from here"))
        return tuple(steps)

    def _check_place(self, volumes: Sequence[Json]) -> None:
        region = self.settings.values["fly"]["region"]
        elsewhere = [each for each in volumes if each["region"] != region]
        if elsewhere:
            raise PreflightError(
                f"platform.fly.region: {region}, but volume {elsewhere[0]['id']} with the databases is in {elsewhere[0]['region']}, and a volume cannot move",
                f"set platform.fly.region to {elsewhere[0]['region']}; or fork it: fly volumes fork {elsewhere[0]['id']} -r {region} -a {self.fly.app}, and destroy the old one",
            )

    def check_region(self, plan: Plan) -> None:
        """Raises PreflightError for a region that Fly does not have, before anything is created."""
        region = self.settings.values["fly"]["region"]
        if "volume" in plan.of("create") or "app" in plan.of("create"):
            regions = self.fly.regions()
            if region not in regions:
                raise PreflightError(
                    f"platform.fly.region: Fly has no region {region!r}; regions: {', '.join(regions)}",
                    "set platform.fly.region to one of them",
                )
