"""Names and paths on a host of the compose target. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from prefect_platform.config import images
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.config.urls import public_url
from prefect_platform.planning.where import Where
from prefect_platform.targets.docker import agent

from .compose_file import APP, DATABASE_PASSWORD, ENTRYPOINT, PROXY_NETWORK, Frame


@dataclass(frozen=True)
class Placed:
    """Where a stack lives: its scope (`host` or the environment's name) and its folder on the host."""

    scope: str
    folder: str


def placed(settings: Settings, stack: Stack) -> Placed:
    # An external Vault is not the host's: another environment there may use ours.
    elsewhere = stack.name == settings.roles.secrets and agent.external(settings)
    scope = "host" if stack.scope == "host" and not elsewhere else settings.env
    return Placed(scope, f"{settings.values['root']}/{scope}/{stack.name}")


def where(settings: Settings, scope: str, stack: str = "") -> Where:
    """What the processes of a stack find; without one, of whatever stack."""
    own = scope == "environment"
    return Where(
        topology="split",
        python="python",
        traefik="traefik",
        entrypoint=ENTRYPOINT,
        template="",
        bundle=APP,
        data="/var/lib/platform",
        routes="/etc/traefik/dynamic",
        shared=f"{settings.values['root']}/host/routes",
        private=private(settings, stack or settings.roles.proxy),
        secrets=agent.ENV_FILE,
        base="",
        listen="0.0.0.0",
        prefix=agent.PREFIX,
        suffix=settings.env_suffix if own else "",
        tag=f"{settings.env}-" if own else "",
        host=urlsplit(public_url(settings)).hostname or "",
        entry="web" if settings.values["traefik"]["tls"] == "off" else "websecure",
    )


def private(settings: Settings, stack: str) -> str:
    """The folder of what only this stack of the host may read."""
    return f"{settings.values['root']}/host/{stack}/private"


def closed(settings: Settings) -> tuple[str, ...]:
    """Networks that lead nowhere else: the data stores' and our own Vault's."""
    return f"platform-data{settings.env_suffix}", agent.inner_network(settings)


def edge(settings: Settings) -> str:
    """The network in which Traefik meets the servers of an environment."""
    return f"platform-edge{settings.env_suffix}"


def frame(settings: Settings, stack: Stack) -> Frame:
    """What surrounds a stack."""
    here = placed(settings, stack)
    suffix = settings.env_suffix
    networks: dict[str, tuple[str, ...]] = {
        name: (f"platform-{name}{suffix}",) for name in ("edge", "data", "work")
    }
    networks |= {
        "agents": (agent.network(settings),),
        # With a way out, which the agents' network lacks.
        "keys": (f"{agent.container(settings)}-keys",),
        "proxy": (PROXY_NETWORK,),
    }
    sidecar, files = agent.service(settings, stack, here.folder) if stack.secrets else (None, {})
    programs = {
        PurePosixPath(path).name: (settings.vault_folder / PurePosixPath(path).name).read_bytes()
        for path in (ENTRYPOINT, DATABASE_PASSWORD)
    }
    return Frame(
        here.scope,
        here.folder,
        where(settings, stack.scope, stack.name),
        networks,
        programs,
        sidecar,
        files,
        digests=images.read(settings.root),
    )
