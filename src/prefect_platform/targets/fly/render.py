"""What becomes the machine: the stacks' files, and beside them Dockerfile, fly.toml, supervisord.conf and the machine's own program. Pure."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from prefect_platform.config import images, private_app
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError
from prefect_platform.planning.bundle import Bundle, Service
from prefect_platform.planning.diff import wanted_files
from prefect_platform.planning.render import library
from prefect_platform.planning.where import Where
from prefect_platform.targets.combined.supervisord_conf import programs

MACHINE = "machine"
TEMPLATES = Path(__file__).parent / "templates"
PROGRAMS = Path(__file__).parent / "machine"
_KILL_LIMIT = 300
"""Fly waits no longer for a machine that stops."""
_SPARE_SECONDS = 10


def check(settings: Settings) -> None:
    """What a schema cannot say. Raises ConfigError."""
    fly, workers = settings.values["fly"], settings.values["prefect"]["workers"]
    if not fly["app"]:
        raise ConfigError(
            "platform.fly.app: target fly needs the app's name, unique on all of Fly.io",
            f"set platform.environments.{settings.env}.fly.app",
        )
    if megabytes(fly["memory"]) > 2048 * fly["cpus"]:
        raise ConfigError(
            f"platform.fly.memory: {fly['memory']} exceeds what {fly['cpus']} shared CPUs allow",
            "at most 2gb per CPU (platform.fly.cpus)",
        )
    if fly["auto_stop"] == "suspend" and megabytes(fly["memory"]) > 2048:
        raise ConfigError("platform.fly.auto_stop: Fly suspends machines of at most 2gb", 'take "stop"')
    if workers and megabytes(fly["memory"]) < 1024:
        raise ConfigError(
            f"platform.fly.memory: {fly['memory']} is too little for gateway, server and a worker (about 180 MB with one run)",
            "set it to 1gb, or platform.prefect.workers: [] and run workers elsewhere",
        )


def megabytes(size: str) -> int:
    return int(size[:-2]) * (1024 if size.endswith("gb") else 1)


def where(stack: str, private: bool = False) -> Where:
    """Places in the image, and on the volume, which is at /data. `private`: Prefect is reached over the private network, which is IPv6."""
    return Where(
        topology="combined",
        python="/usr/local/bin/python",
        traefik="/usr/local/bin/traefik",
        entrypoint="/platform/machine/entrypoint.sh",
        template="/platform/prefect-template.db",
        bundle=f"/platform/{stack}",
        data=f"/data/{stack}",
        routes="/platform/routes",
        secrets=f"/dev/shm/platform/secrets/{stack}.env",
        # Not [::]: from the private network, past the edge, any client could forge its headers.
        outside="0.0.0.0",
        proxy="Fly-Client-IP",
        ui="/platform/ui",
        official=True,
        # Fly kills what has not ended after five minutes: the server's and the gateway's turn comes after the worker's.
        drain_seconds=120,
        open_ready=True,
        listen="::" if private else "127.0.0.1",
    )


def machine(settings: Settings, bundles: Sequence[Bundle]) -> Bundle:
    """The bundle that is the machine's own. Raises ConfigError if its processes may take longer to stop than Fly waits."""
    services = [service for bundle in bundles for service in bundle.services]
    patience = sum(service.stop_seconds for service in services) + _SPARE_SECONDS
    if patience > _KILL_LIMIT:
        raise ConfigError(
            f"platform.prefect.workers: all processes, one after the other, may take {patience} s to stop; Fly kills after {_KILL_LIMIT} s",
            f"set drain_seconds of the workers lower, by {patience - _KILL_LIMIT} s in all, or run workers elsewhere",
        )
    values = {
        **settings.values,
        "sleep": _sleep(settings),
        "kill_timeout": patience,
        "port": settings.values["gateway"]["port"],
        "programs": programs(services, "", {}),
        "identifier": f"prefect-platform-{settings.env}",
        "main": settings.roles.main,
        # Whatever makes the database template: copied before what changes more often.
        "server": [
            path
            for bundle in bundles
            if bundle.stack.sqlite
            for path in sorted(bundle.files)
            if path.startswith(("server", "sqlite_writes")) and path.endswith(".py")
        ],
        "folders": [*(bundle.stack.name for bundle in bundles), "routes"],
    }
    files = {
        "Dockerfile": _render("Dockerfile.j2", values | _images(settings)),
        "fly.toml": _render("fly.toml.j2", values),
        "supervisord.conf": _render("supervisord.conf.j2", values),
        "machine.py": (PROGRAMS / "machine.py").read_bytes(),
        "prepare.py": (PROGRAMS / "prepare.py").read_bytes(),
        "entrypoint.sh": (settings.vault_folder / "entrypoint.sh").read_bytes(),
        "hold.py": (PROGRAMS / "hold.py").read_bytes(),
        "sleep.py": (PROGRAMS / "sleep.py").read_bytes(),
        "services.json": _services(settings, bundles, services),
    }
    stack = Stack(MACHINE, TEMPLATES, "", MACHINE, (), (), (), {})
    return Bundle(stack, files | _supervisor(), (), None)


def _images(settings: Settings) -> dict[str, str]:
    """The official images that the machine's is made of; no litestream without a replica."""
    pins = images.read(settings.root)
    replica = settings.values["prefect"]["replica"]
    return {
        "prefect_image": images.pinned(settings.values["prefect"]["image"], pins),
        "traefik_image": images.pinned(settings.values["traefik"]["image"], pins),
        "litestream_image": images.pinned(replica["image"], pins) if replica else "",
    }


def _sleep(settings: Settings) -> dict[str, Any] | None:
    """What sleep.py must know; None for a machine that stays awake."""
    values, main = settings.values, settings.roles.main
    fly, gateway, prefect = values["fly"], values["gateway"], values["prefect"]
    if fly["auto_stop"] == "off":
        return None
    return {
        "verb": fly["auto_stop"],
        "minutes": fly["idle_minutes"],
        "metrics": f"http://127.0.0.1:{gateway['ops_port']}/metrics",
        "api": f"{prefect['upstream'] or 'http://127.0.0.1:' + str(prefect['port'])}{where(main).base}/api",
    }


def _services(settings: Settings, bundles: Sequence[Bundle], services: Sequence[Service]) -> bytes:
    gateway = settings.values["gateway"]
    facts = {
        "entry": None
        if private_app.private(settings)
        else {"port": gateway["port"], "ready": f"http://127.0.0.1:{gateway['ops_port']}/ping"},
        "sleep": _sleep(settings),
        "stacks": [bundle.stack.name for bundle in bundles],
        "secrets": {
            bundle.stack.name: [spec.name for spec in bundle.stack.secrets]
            for bundle in bundles
            if bundle.stack.secrets
        },
        "services": {service.full_name: service.facts() for service in services},
    }
    return json.dumps(facts, indent=1, sort_keys=True).encode()


def _supervisor() -> dict[str, bytes]:
    """supervisor as the lock pins it: the official image lacks it, and a build that downloads nothing cannot get another."""
    spec = importlib.util.find_spec("supervisor")
    version = Path(str(spec and spec.origin)).parent / "version.txt"
    found = {name: body for name, body in library("supervisor").items() if "/tests/" not in name}
    return found | {"supervisor/version.txt": version.read_bytes()}


def context(bundles: Sequence[Bundle]) -> dict[str, bytes]:
    """The build's folder: path → bytes. Dockerfile and fly.toml are at its top."""
    found = {}
    for path, body in wanted_files(bundles).items():
        top = path.removeprefix(f"{MACHINE}/")
        found[top if top in ("Dockerfile", "fly.toml") else path] = body
    return found


def tag(files: Mapping[str, bytes]) -> str:
    """The image's label: another for every other content."""
    digest = hashlib.sha256()
    for path, body in sorted(files.items()):
        digest.update(path.encode() + b"\0" + hashlib.sha256(body).digest())
    return f"platform-{digest.hexdigest()[:16]}"


def _render(name: str, values: Mapping[str, Any]) -> bytes:
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return env.from_string((TEMPLATES / name).read_text()).render(values).encode()
