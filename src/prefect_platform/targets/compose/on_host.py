"""An environment on its host: folders, names, current releases, routes, `docker compose`. Shared by the modules of this target."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ApplyError, PlatformError
from prefect_platform.planning.where import Where
from prefect_platform.secretstore.store import SecretStore
from prefect_platform.targets.docker import health, releases, vault_access
from prefect_platform.targets.docker.host import Host, unpacked
from prefect_platform.targets.protocol import Say

from . import compose_file, names


class NotHealthy(ApplyError):
    """A release was started and did not become healthy; `cause` says why."""

    def __init__(self, stack: Stack, cause: str, hint: str) -> None:
        super().__init__(f"{stack.name}: did not become healthy: {cause}", hint)
        self.cause = cause


@dataclass
class Site:
    """The settings of an environment and the host that it is for."""

    settings: Settings
    host: Host
    say: Say
    vault: vault_access.Access = field(init=False)

    def __post_init__(self) -> None:
        kept = vault_access.tokens(self.settings, self.host)
        self.vault = vault_access.Access(self.host, self.settings, kept, self.say)

    @property
    def env(self) -> str:
        return self.settings.env

    @property
    def store(self) -> SecretStore:
        return self.vault.store()

    # -- names
    def placed(self, stack: Stack) -> names.Placed:
        return names.placed(self.settings, stack)

    def folder(self, stack: Stack) -> str:
        return self.placed(stack).folder

    def where(self, scope: str = "environment", stack: str = "") -> Where:
        return names.where(self.settings, scope, stack)

    def project(self, stack: Stack) -> str:
        return compose_file.project(self.placed(stack).scope, stack.name)

    @property
    def postgres(self) -> str:
        """The container of the environment's shared PostgreSQL."""
        return self.where().container(self.settings.roles.database)

    @property
    def proxy(self) -> str:
        """The container of the host's proxy."""
        return self.where("host").container(self.settings.roles.proxy)

    @property
    def dumps(self) -> str:
        """The folder of database dumps."""
        return f"{self.host.root}/{self.env}/{self.settings.roles.database}/dumps"

    # -- what is written down
    def current(self, stack: Stack) -> str:
        """The release that runs; empty when there is none."""
        script = 'readlink "$1/current" 2>/dev/null || true'
        return self.host.sh(script, self.folder(stack)).text.strip().removeprefix("releases/")

    def compose_files(self, stack: Stack) -> dict[str, bytes]:
        """Release → its Compose file."""
        script = 'cd "$1/releases" 2>/dev/null && tar -cf - -- */compose.yml || true'
        found = unpacked(self.host.sh(script, self.folder(stack)).stdout)
        return {path.removesuffix("/compose.yml"): body for path, body in found.items()}

    def record(self, what: str, stack: Stack, release: str, result: str, detail: str) -> None:
        """A line of the history."""
        folder = f"{self.host.root}/{self.placed(stack).scope}"
        line = releases.entry(f"{stack.name}.{what}", release, result, detail)
        releases.record(self.host, folder, line)

    # -- routes
    def routes(self, stack: Stack) -> bytes:
        """What Traefik serves for the stack now; empty without."""
        file = f"{self.host.root}/host/routes/{self._routes_name(stack)}"
        return self.host.sh('cat "$1" 2>/dev/null || true', file).stdout

    def serve_routes(self, stack: Stack, routes: bytes | None) -> None:
        """Put the stack's routes where Traefik sees them, or take them away."""
        folder, name = f"{self.host.root}/host/routes", self._routes_name(stack)
        if not routes:
            self.host.sh('rm -f "$1/$2"', folder, name)
            return
        # Traefik loads what ends in .yml: the new file appears under its name in one step.
        script = 'mkdir -p "$1" && cat >"$1/.$2.tmp" && chmod 644 "$1/.$2.tmp" && mv "$1/.$2.tmp" "$1/$2"'
        self.host.sh(script, folder, name, stdin=routes)

    def _routes_name(self, stack: Stack) -> str:
        return f"{self.placed(stack).scope}-{stack.name}.yml"

    # -- Docker Compose
    def compose(self, stack: Stack, release: str, *words: str, seconds: float = 600) -> str:
        """`docker compose` on a release; returns stdout and stderr."""
        file = f"{self.folder(stack)}/releases/{release}/compose.yml"
        project = ("compose", "-p", self.project(stack), "-f", file)
        # A setup killed here continues there until its command ends; the next one must wait for it.
        busy = f"{self.folder(stack)}/busy"
        done = self.host.run("flock", busy, "docker", *project, *words, seconds=seconds)
        return done.text + done.stderr

    def up(self, stack: Stack, release: str, seconds: int, *, wait: bool = True) -> None:
        """Bring the stack to a release, and wait until its services are healthy. Raises CommandFailed.

        What is replaced, or no longer in the file, stops first and may take its grace period: a worker finishes its runs.
        """
        words = ("--wait", "--wait-timeout", str(seconds)) if wait else ()
        there = self.host.containers(env=self.placed(stack).scope, stack=stack.name)
        patience = sum(each["Config"].get("StopTimeout") or 10 for each in there)
        self.compose(
            stack,
            release,
            "up",
            "-d",
            "--remove-orphans",
            *words,
            seconds=seconds + 120 + patience,
        )
        if stack.name == self.settings.roles.proxy:
            self.join_edges()

    def edges(self) -> list[str]:
        """The edge networks of the host's environments, this one's too."""
        known = self.host.engine.networks({"prefect-platform.edge": ""})
        return sorted({names.edge(self.settings), *known})

    def unjoined_edges(self) -> list[str]:
        """Those that the proxy's container, where there is one, is not in."""
        there = self.host.engine.container(self.proxy)
        return [] if there is None else sorted({*self.edges()} - {*there["NetworkSettings"]["Networks"]})

    def join_edges(self) -> None:
        """Compose knows only the proxy's own network: a new container has left the others."""
        for name in self.unjoined_edges():
            self.host.docker("network", "connect", name, self.proxy)

    def start(self, stack: Stack, release: str, seconds: int, *, wait: bool = True) -> None:
        """`up`, with the cause where it fails. Raises NotHealthy, and PlatformError where the engine does not even say why."""
        try:
            self.up(stack, release, seconds, wait=wait)
        except PlatformError as error:
            hint = f"./invoke {stack.name}.logs"
            try:
                cause = health.cause(self.host, self.placed(stack).scope, stack.name)
            except PlatformError as also:
                raise ApplyError(f"{error.reason[-600:]}\n{also.reason}", also.hint or hint) from None
            raise NotHealthy(stack, cause or error.reason[-600:], error.hint or hint) from None
