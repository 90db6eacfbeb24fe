"""A stack's Compose file as the host gets it: the stack's own, with safe defaults. Pure.

A stack declares what it needs beyond these defaults: no capability, no new privileges, a read-only root, an ordinary user, bounded
memory and logs, a restart after every end. File contents do not count in Compose's own decision what to recreate (2.26 … current):
so the files that a service reads stand in a folder named by their digest, and a changed file is a changed mount.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import yaml

from prefect_platform.config import images
from prefect_platform.errors import ConfigError
from prefect_platform.planning.bundle import Bundle, Service, content_digest
from prefect_platform.planning.render import env_file
from prefect_platform.planning.where import Where
from prefect_platform.targets.docker.agent import SECRETS

APP = "/platform/app"
ENTRYPOINT = "/platform/entrypoint.sh"
DATABASE_PASSWORD = "/platform/database_password.py"  # noqa: S105 - a path
AGENT = "vault-agent"
LABEL = "prefect-platform"
DIGEST = f"{LABEL}.digest"
PROXY_NETWORK = "platform-proxy"
"""Traefik's own: the one that Compose puts it in. It joins the environments' while it runs; were one of them its first network, Docker
would not start it any more once that environment was gone.
"""
ONCE = f"{LABEL}.once"
SCHEMA = "x-schema"
UID = "1001:1001"
_OURS = ("x-reads", "x-ports", "x-once", "x-unready", "x-connections", SCHEMA, "env_file")
_HEALTH = {"interval": "10s", "timeout": "8s", "retries": 3, "start_period": "90s", "start_interval": "1s"}


@dataclass(frozen=True)
class Frame:
    """What surrounds a stack on the host. `folder` is the stack's there; `networks`: what a stack calls one → its real name;
    `programs`: those of vault/ that containers with secrets get.
    """

    env: str
    folder: str
    where: Where
    networks: Mapping[str, tuple[str, ...]]
    programs: Mapping[str, bytes]
    agent: Mapping[str, Any] | None = None
    agent_files: Mapping[str, bytes] = field(default_factory=dict)
    volumes: frozenset[str] = frozenset()
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Volume:
    """A named volume that must exist before the services start, its top folder owned by `owner` (uid:gid)."""

    name: str
    owner: str


def finish(bundle: Bundle, frame: Frame) -> Bundle:
    """The bundle with `compose.yml`, the content-addressed files it mounts, and its services. Raises ConfigError."""
    specs: dict[str, Any] = {name: dict(spec or {}) for name, spec in bundle.compose["services"].items()}
    secret = [name for name, spec in specs.items() if "SECRETS_FILE" in spec.get("environment", {})]
    frame = replace(frame, volumes=frozenset(bundle.compose.get("volumes") or ()))
    owners = {specs[name].get("user", UID) for name in secret}
    if len(owners) > 1:
        raise ConfigError(
            f"stacks/{bundle.stack.name}: services with secrets run as {sorted(owners)}; one user only"
        )
    files = dict(bundle.files)
    stored: dict[str, bytes] = {}
    services = []
    if secret and frame.agent is not None:
        specs[AGENT] = {**frame.agent, "user": owners.pop(), "x-reads": sorted(frame.agent_files)}
        files |= frame.agent_files
    for name, spec in specs.items():
        final, reads, content = _service(bundle.stack.name, name, spec, files, frame)
        stored |= content
        services.append(Service(bundle.stack.name, name, (), {}, "", "", 0, (), reads, (), final))
    compose = {
        "name": project(frame.env, bundle.stack.name),
        "services": {service.name: _labelled(service) for service in services},
        **_networks(services, frame),
        **_volumes(bundle, frame, owners_of=specs, secret=bool(secret)),
    }
    head = "# Rendered by prefect-platform. Change settings, not this file: the next setup writes a new release.\n"
    text = head + yaml.safe_dump(_literal(compose), sort_keys=False, width=150)
    return replace(bundle, files={"compose.yml": text.encode(), **stored}, services=tuple(services))


def project(env: str, stack: str) -> str:
    """The Compose project of a stack."""
    return f"platform-{env}-{stack}"


def volumes(bundle: Bundle, where: Where) -> list[Volume]:
    """The volumes that hold data."""
    declared: Mapping[str, Any] = bundle.compose.get("volumes") or {}
    return [
        Volume(where.container(bundle.stack.name, name), (spec or {}).get("x-owner", UID))
        for name, spec in declared.items()
    ]


def waits(bundle: Bundle) -> bool:
    """Whether its services become healthy by themselves: Vault does so once it is initialised, which comes after its start."""
    return not any((spec or {}).get("x-unready") for spec in bundle.compose["services"].values())


def once(bundle: Bundle) -> list[str]:
    """Services that run once, before the others, when they have changed."""
    return [name for name, spec in bundle.compose["services"].items() if (spec or {}).get("x-once")]


def _service(
    stack: str, name: str, spec: dict[str, Any], files: Mapping[str, bytes], frame: Frame
) -> tuple[dict[str, Any], dict[str, str], dict[str, bytes]]:
    environment: dict[str, str] = {}
    for path in spec.get("env_file", ()):
        environment |= env_file(files[path].decode())
    environment |= {key: str(value) for key, value in spec.get("environment", {}).items()}
    # nocopy: Docker gives an empty volume the owner of the folder it covers, which would take it from its user again.
    mounts = [
        f"{each}:nocopy" if each.split(":")[0] in frame.volumes and each.count(":") == 1 else each
        for each in spec.get("volumes", ())
    ]
    read = [path for path in spec.get("x-reads", ()) if path not in spec.get("env_file", ())]
    stored: dict[str, bytes] = {}
    if read:
        stored |= _stored({path: body for path, body in files.items() if _covers(read, path)})
        mounts.append(f"{frame.folder}/{_folder_of(stored)}:{APP}:ro")
    if "SECRETS_FILE" in environment:
        for place in (ENTRYPOINT, *([DATABASE_PASSWORD] if "SECRETS_ON_CHANGE" in environment else ())):
            file = PurePosixPath(place).name
            program = _stored({file: frame.programs[file]})
            stored |= program
            mounts.append(f"{frame.folder}/{next(iter(program))}:{place}:ro")
        mounts.append(f"secrets:{SECRETS}:ro,nocopy")
        environment.setdefault("SECRETS_WATCH", "5")
    final = _hardened(stack, name, spec, frame) | {"environment": environment, "volumes": mounts}
    final["image"] = images.pinned(final["image"], frame.digests)
    if decides := spec.get(SCHEMA):
        final[SCHEMA] = " ".join(content_digest(files, path) for path in decides)
    final["networks"] = [real for each in spec.get("networks", ["data"]) for real in frame.networks[each]]
    final = {key: value for key, value in final.items() if value not in ([], {}, None)}
    return _plain(final), {path: content_digest(files, path) for path in read}, stored


def _hardened(stack: str, name: str, spec: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    runs_once = bool(spec.get("x-once"))
    health = spec.get("healthcheck")
    final: dict[str, Any] = {
        "container_name": frame.where.container(stack, name),
        "user": UID,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "init": True,
        "pids_limit": 1024,
        "restart": "no" if runs_once else "unless-stopped",
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
        "labels": {f"{LABEL}.env": frame.env, f"{LABEL}.stack": stack, f"{LABEL}.service": name},
    } | {key: value for key, value in spec.items() if key not in _OURS}
    if "mem_limit" in final:
        final["memswap_limit"] = final["mem_limit"]  # no swapping: slow is worse than restarted
    if runs_once:
        final["profiles"] = ["once"]
        final["labels"][ONCE] = "yes"
    if health:
        final["healthcheck"] = {**_HEALTH, **health}
    return final


def _labelled(service: Service) -> dict[str, Any]:
    """With the digest that later shows whether a container matches the configuration."""
    return {**service.spec, "labels": {**service.spec["labels"], DIGEST: service.digest()}}


def _literal(value: Any) -> Any:
    """Compose would put variables of the shell in for `$`."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _literal(each) for key, each in value.items()}
    return [_literal(each) for each in value] if isinstance(value, list) else value


def _covers(read: list[str], path: str) -> bool:
    return any(path == each or (each.endswith("/") and path.startswith(each)) for each in read)


def _stored(content: Mapping[str, bytes]) -> dict[str, bytes]:
    """Paths below the stack's folder on the host, in a folder named by what is in it."""
    digest = hashlib.sha256()
    for path, body in sorted(content.items()):
        digest.update(path.encode() + b"\0" + body + b"\0")
    return {f"files/{digest.hexdigest()[:16]}/{path}": body for path, body in content.items()}


def _folder_of(stored: Mapping[str, bytes]) -> str:
    return str(PurePosixPath(*PurePosixPath(next(iter(stored))).parts[:2]))


def _networks(services: list[Service], frame: Frame) -> dict[str, Any]:
    used = sorted({name for service in services for name in service.spec.get("networks", ())})
    return {"networks": {name: {"external": True} for name in used}} if used else {}


def _volumes(bundle: Bundle, frame: Frame, owners_of: Mapping[str, Any], secret: bool) -> dict[str, Any]:
    declared = bundle.compose.get("volumes") or {}
    made: dict[str, Any] = {
        name: {"name": frame.where.container(bundle.stack.name, name), "external": True} for name in declared
    }
    if secret and AGENT in owners_of:
        uid, gid = owners_of[AGENT]["user"].split(":")
        options = f"size=1m,uid={uid},gid={gid},mode=0700"
        made["secrets"] = {
            "name": frame.where.container(bundle.stack.name, "secrets"),
            "driver": "local",
            "driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": options},
        }
    return {"volumes": made} if made else {}


def _plain(value: Any) -> Any:
    """Without YAML's shared references, so that the file has no anchors."""
    return json.loads(json.dumps(value))
