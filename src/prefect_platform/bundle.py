"""Stack + Settings + Where → Bundle: the rendered files and services of a stack. Pure but for reading the stack's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from .errors import ConfigError
from .settings import Settings
from .stack import Stack

ROUTES = "routes.yml"
_NOT_RENDERED = {"stack.yml", "README.md", "compose.yml.j2"}
_SIGNALS = {"SIGTERM": "TERM", "SIGINT": "INT", "SIGQUIT": "QUIT"}


@dataclass(frozen=True)
class Where:
    """The paths a stack's processes find at run time, absolute; `topology` is combined or split."""

    topology: str
    python: str
    traefik: str
    entrypoint: str
    template: str
    bundle: str
    data: str
    routes: str
    secrets: str


@dataclass(frozen=True)
class Service:
    """One process, in Compose's terms. `reads` are bundle files whose change must restart it."""

    stack: str
    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: str
    stop_signal: str
    stop_seconds: int
    after: tuple[str, ...]
    reads: Mapping[str, str]
    ports: tuple[int, ...]

    @property
    def full_name(self) -> str:
        return f"{self.stack}-{self.name}"

    @property
    def needs_secrets(self) -> bool:
        return "SECRETS_FILE" in self.environment

    def facts(self) -> dict[str, Any]:
        """What a restart depends on, as plain data: kept to tell later what changed."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Bundle:
    """`files`: path inside the stack's run-time folder → bytes. `routes` is its share of Traefik's dynamic configuration."""

    stack: Stack
    files: Mapping[str, bytes]
    services: tuple[Service, ...]
    routes: bytes | None


def build(stack: Stack, settings: Settings, where: Where) -> Bundle:
    """Render a stack. Secret names may appear, values cannot: they are not an argument. Raises ConfigError with the template's place."""
    values = {
        "settings": settings.values,
        "where": where,
        "topology": where.topology,
        "env": settings.env,
        "public_url": public_url(settings),
    }
    rendered = {path: _render(stack, path, values) for path in sorted(stack.folder.glob("*.j2"))}
    files = {path.name.removesuffix(".j2"): text.encode() for path, text in rendered.items()}
    compose = files.pop("compose.yml")
    routes = files.pop(ROUTES, None)
    for path in sorted(stack.folder.iterdir()):
        if path.is_file() and path.suffix != ".j2" and path.name not in _NOT_RENDERED:
            files[path.name] = path.read_bytes()
    for package in stack.packages:
        files |= _package(settings.root / "src", package)
    services = _services(stack, yaml.safe_load(compose), files, where)
    return Bundle(stack, files, services, routes)


def public_url(settings: Settings) -> str:
    """Where people and clients reach the gateway, without a slash at the end."""
    gateway = settings.values["gateway"]
    given = gateway["public_url"]
    host = gateway["host"]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return str(given or f"http://{_listen(shown, gateway['port'])}")


def _listen(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _render(stack: Stack, path: Path, values: Mapping[str, Any]) -> str:
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.globals["listen"] = _listen
    env.filters["wrapped"] = lambda rule: f"({rule})"
    try:
        return env.from_string(path.read_text()).render(values)
    except jinja2.TemplateError as error:
        raise ConfigError(f"stacks/{stack.name}/{path.name}: {error}") from None


def _package(src: Path, package: str) -> dict[str, bytes]:
    """A package's modules, with the __init__ files above it."""
    folder = src / package
    parents = [
        src / Path(*Path(package).parts[:depth]) / "__init__.py"
        for depth in range(1, len(Path(package).parts))
    ]
    return {
        str(path.relative_to(src)): path.read_bytes() for path in [*parents, *sorted(folder.rglob("*.py"))]
    }


def _services(stack: Stack, compose: Any, files: Mapping[str, bytes], where: Where) -> tuple[Service, ...]:
    services = []
    for name, spec in compose["services"].items():
        environment: dict[str, str] = {}
        for env_file in spec.get("env_file", ()):
            environment |= _env_file(files[env_file].decode())
        environment |= {key: str(value) for key, value in spec.get("environment", {}).items()}
        services.append(
            Service(
                stack.name,
                name,
                tuple(str(word) for word in [*spec.get("entrypoint", ()), *spec["command"]]),
                environment,
                spec.get("working_dir", where.data),
                _SIGNALS[spec.get("stop_signal", "SIGTERM")],
                int(str(spec.get("stop_grace_period", "10s")).removesuffix("s")),
                tuple(spec.get("depends_on", ())),
                {path: _sha(files, path) for path in spec.get("x-reads", ())},
                tuple(spec.get("x-ports", ())),
            )
        )
    return tuple(services)


def _env_file(text: str) -> dict[str, str]:
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _sha(files: Mapping[str, bytes], path: str) -> str:
    """The digest of a file, or of all files below a path that ends in a slash."""
    chosen = sorted(name for name in files if name == path or (path.endswith("/") and name.startswith(path)))
    digest = hashlib.sha256()
    for name in chosen:
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()[:16]
