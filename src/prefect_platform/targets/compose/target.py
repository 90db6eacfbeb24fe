"""Target `compose`: a host with Docker, over SSH. Each stack is a Compose project of its own; every deploy is a release folder on the host."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError, PreflightError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Observed, Plan, Step
from prefect_platform.planning.where import Where
from prefect_platform.secretstore.store import SecretStore
from prefect_platform.targets.docker import ports, releases
from prefect_platform.targets.docker.host import Host
from prefect_platform.targets.docker.runner import LocalRunner, Runner, SshRunner
from prefect_platform.targets.docker.tunnels import Tunnels
from prefect_platform.targets.protocol import Entry, Process, Say

from . import apply, backup, compose_file, containers, names, observe, people, remove, roll_back
from .on_host import Site
from .traits import TRAITS

_FREE_BYTES = 2 * 1024**3

_ESTABLISHED = """
for f in "$1/$2"/*/current "$1/host"/*/current; do
    [ -e "$f" ] || continue
    basename "$(dirname "$f")"
done
true
"""


class Target:
    """See targets.Target."""

    traits = TRAITS

    def __init__(self, settings: Settings, say: Say, runner: Runner | None = None) -> None:
        self.settings = settings
        self.host = Host(runner or _runner(settings), settings.values["root"])
        self.site = Site(settings, self.host, say)
        self._tunnels = Tunnels(self.host)
        self._warned: set[str] = set()
        if runner is None:
            self.host.look_ahead()

    @property
    def store(self) -> SecretStore:
        return self.site.store

    def lock(self, command: str, wait: float) -> AbstractContextManager[None]:
        """One writer per environment, and per host for what all share. Raises LockedError."""
        who = f"{command} by {releases.who()} (pid {os.getpid()}, since {datetime.datetime.now():%H:%M:%S})"
        return self.host.lock(f"{self.host.root}/{self.settings.env}", who, wait, self.site.say)

    def where(self, stack: str, scope: str = "environment") -> Where:
        return self.site.where(scope, stack)

    def adapt(self, bundles: list[Bundle]) -> list[Bundle]:
        """The bundles as this host gets them."""
        return [self._finished(bundle) for bundle in bundles]

    def _finished(self, bundle: Bundle) -> Bundle:
        stack = bundle.stack
        return compose_file.finish(bundle, names.frame(self.settings, stack))

    # -- setup
    def prepare(self) -> str:
        """Install Docker and Compose on a bare host; returns what was done. Raises PreflightError without the rights."""
        runner = self.host.runner
        script = (Path(__file__).parent / "prepare.sh").read_bytes()
        sudo = [] if runner.run(["id", "-u"]).text.strip() == "0" else ["sudo", "-n"]
        if sudo and runner.run([*sudo, "true"], check=False).code:
            raise PreflightError(
                f"{runner.place}: installing packages needs root or passwordless sudo",
                "log in as root (platform.host: root@…), or install it yourself: Docker, Compose 2.24 or newer",
            )
        return runner.run([*sudo, "sh", "-s", "--", self.host.root], script, seconds=1800).text

    def observe(self, bundles: Sequence[Bundle]) -> Observed:
        return observe.observe(self.site, bundles)

    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Raises PreflightError: no Docker, old Compose, no rights, disk nearly full, a port taken."""
        self.host.require_docker()
        facts = self.host.facts()
        if plan.steps and facts.free < _FREE_BYTES:
            raise PreflightError(
                f"{self.host.runner.place}: {facts.free // 2**20} MiB free under {self.host.root}, {_FREE_BYTES // 2**20} MiB needed",
                "free disk space there (docker system df shows what images take), then run the command again",
            )
        starting = {*plan.of("start", "restart")}
        services = [each for bundle in bundles for each in bundle.services if each.full_name in starting]
        ports.check(self.host, services, self.settings)
        for warning in people.warnings(facts, services, self.host.runner.place):
            if warning not in self._warned:
                self._warned.add(warning)
                self.site.say(f"warning: {warning}")

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Do the steps. Interrupted anywhere, the next setup resumes."""
        for bundle in bundles if plan.steps else ():
            apply.apply(self.site, bundle, plan)

    # -- Vault
    def vault_steps(self) -> tuple[Step, ...]:
        return tuple(Step.of(change, "") for change in self.site.vault.plan_set_up())

    def set_up_vault(self) -> tuple[Step, ...]:
        return tuple(Step.of(change, "") for change in self.site.vault.set_up())

    def recover_vault(self, keys: Sequence[str]) -> None:
        self.site.vault.recover(keys)

    def expose(self, bundle: Bundle) -> None:
        """Serve the routes of a stack whose setup is over."""
        if self.site.routes(bundle.stack) != (bundle.routes or b""):
            self.site.serve_routes(bundle.stack, bundle.routes)

    def reach(self, stack: str, service: str, port: int) -> str:
        """A URL of this machine that leads to a service's port. Raises PreflightError when it does not run."""
        next_command = f"./invoke {stack}.setup --env {self.settings.env}"
        network = names.edge(self.settings)
        return self._tunnels.to(self.site.where().container(stack, service), network, port, next_command)

    def established(self) -> list[str]:
        """Stacks that are set up for this environment: they have a current release, and the proxy is in the environment's edge network."""
        found = set(self.host.sh(_ESTABLISHED, self.host.root, self.settings.env).text.split())
        if names.edge(self.settings) in self.site.unjoined_edges():
            found.discard(self.settings.roles.proxy)
        return sorted(found)

    def memory(self) -> int:
        return self.host.facts().memory

    def room(self) -> int:
        return self.host.facts().free

    def digests(self, images: Sequence[str]) -> dict[str, str]:
        return apply.digests(self.site, images)

    def backup(self, stack: Stack, folder: Path, label: str) -> Path:
        return backup.backup(self.site, stack, folder, label)

    def restore(self, stack: Stack, file: Path) -> str:
        return backup.restore(self.site, stack, file)

    # -- containers
    def processes(self) -> list[Process]:
        return containers.processes(self.site)

    def run_in(self, stack: str, argv: Sequence[str]) -> str:
        return containers.run_in(self.site, stack, argv)

    def tail(self, service: str, lines: int) -> list[str]:
        return containers.tail(self.site, service, lines)

    def follow(self, services: Sequence[str]) -> Iterator[tuple[str, str]]:
        return containers.follow(self.site, services)

    def stop(self, services: Sequence[str]) -> None:
        containers.stop(self.site, services)

    def restart(self, services: Sequence[str]) -> None:
        containers.restart(self.site, services)

    def known(self) -> list[tuple[str, str]]:
        return sorted(map(containers.identity, containers.found(self.site)))

    def execute(self, service: str, words: Sequence[str]) -> int:
        return containers.execute(self.site, service, words)

    # -- releases
    def history(self) -> list[Entry]:
        """Of the environment and of what the host shares, oldest first."""
        folders = (f"{self.host.root}/{self.settings.env}", f"{self.host.root}/host")
        lines = [line for folder in folders for line in releases.history(self.host, folder)]
        return sorted(lines, key=lambda line: line.time)

    def releases(self, stack: Stack) -> list[tuple[str, bool, Entry | None]]:
        """(release, whether it is the current one, what the history says of it), newest first."""
        told = {line.release: line for line in self.history() if line.what.partition(".")[0] == stack.name}
        current = self.site.current(stack)
        there = releases.present(self.host, self.site.folder(stack))
        return [(each, each == current, told.get(each)) for each in reversed(there)]

    def roll_back(self, stack: Stack, wanted: str, restore: bool) -> str:
        return roll_back.roll_back(self.site, stack, wanted, restore)

    def removal(self, stack: str, data: bool) -> str:
        return remove.told(self.site, stack, data)

    def remove(self, stacks: Mapping[str, Stack], stack: str, data: bool) -> None:
        remove.remove(self.site, stacks, stack, data)


def _runner(settings: Settings) -> Runner:
    host = settings.values["host"]
    if not host:
        raise ConfigError(
            "platform.host: target compose needs the host's ssh destination",
            f"set platform.environments.{settings.env}.host",
        )
    if host == "localhost":
        return LocalRunner()
    config = settings.values["ssh_config"]
    return SshRunner(host, (settings.root / config).resolve() if config else None)
