"""Stack + Settings + Where → Bundle: the rendered files and services of a stack. Pure but for reading the stack's folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import yaml

from prefect_platform.config import database_url, sso, tls
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError

ROUTES = "routes.yml"
_NOT_RENDERED = {"stack.yml", "README.md", "compose.yml.j2"}
_SIGNALS = {"SIGTERM": "TERM", "SIGINT": "INT", "SIGQUIT": "QUIT"}


@dataclass(frozen=True)
class Where:
    """What a stack's processes find at run time: absolute paths and names; `topology` is combined or split.

    `base` is the path under which Prefect is served, `entry` Traefik's entry point, `listen` the address to bind,
    `outside` the address that the gateway listens on where that is not the settings' affair, `proxy` the header in which a trusted
    proxy in front of it names the client, `ui` a prepared folder of the UI's files, `official` whether the processes run in an official
    image, which lacks what the runtime's lock adds, `drain_seconds` how long a worker's stop waits for its runs unless it is declared. The
    others belong to the split topology: `prefix` and `suffix` of container names, `tag` before the names of Traefik's objects (several
    environments share one Traefik), the public `host`, the `shared` folder of routes on the host, Traefik's
    `private` one, the host's `memory` in bytes.
    """

    topology: str
    python: str
    traefik: str
    entrypoint: str
    template: str
    bundle: str
    data: str
    routes: str
    secrets: str
    base: str = "/prefect"
    outside: str = ""
    proxy: str = ""
    ui: str = ""
    official: bool = False
    listen: str = "127.0.0.1"
    drain_seconds: int = 300
    prefix: str = ""
    suffix: str = ""
    tag: str = ""
    host: str = ""
    entry: str = "web"
    shared: str = ""
    private: str = ""
    memory: int = 0

    def container(self, stack: str, service: str = "") -> str:
        """The name of a container (split topology): `platform-prefect-server-staging`."""
        return f"{self.prefix}{stack}{'-' + service if service else ''}{self.suffix}"

    def address(self, stack: str, service: str = "") -> str:
        """The host name under which others reach a service."""
        return self.container(stack, service) if self.topology == "split" else "127.0.0.1"

    def api_servers(self, replicas: int) -> list[str]:
        """The host names of Prefect's API servers; the first has no number."""
        names = ["server", *(f"server-{number}" for number in range(2, replicas + 1))]
        return [self.address("prefect", name) for name in (names if self.topology == "split" else names[:1])]


@dataclass(frozen=True)
class Service:
    """One process, in Compose's terms. `reads` are bundle files whose change must restart it.

    `spec` is the whole Compose service where a Compose engine runs it; the fields beside it are then empty.
    """

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
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.stack}-{self.name}"

    @property
    def needs_secrets(self) -> bool:
        return "SECRETS_FILE" in self.environment

    def facts(self) -> dict[str, Any]:
        """What a restart depends on, as plain data: kept to tell later what changed."""
        facts = asdict(self)
        spec = facts.pop("spec")
        if spec:
            facts = {"stack": self.stack, "name": self.name, "reads": facts["reads"], **spec}
        return json.loads(json.dumps(facts))  # type: ignore[no-any-return]

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Bundle:
    """`files`: path inside the stack's run-time folder → bytes. `routes` is its share of Traefik's dynamic configuration.

    `compose` is the parsed Compose file, from which a target makes the `services` it runs.
    """

    stack: Stack
    files: Mapping[str, bytes]
    services: tuple[Service, ...]
    routes: bytes | None
    compose: Mapping[str, Any] = field(default_factory=dict)


def build(stack: Stack, settings: Settings, where: Where) -> Bundle:
    """Render a stack. Secret names may appear, values cannot: they are not an argument. Raises ConfigError with the template's place."""
    values = {
        "settings": settings.values,
        "where": where,
        "topology": where.topology,
        "env": settings.env,
        "public_url": public_url(settings),
        "sso": sso.doors(settings, where.host, where.address("authentik", "server")) if where.host else None,
        "sso_url": sso.known_url(settings),
        "database": database_url.parse(url) if (url := settings.values["prefect"]["database_url"]) else None,
        # Names of the files that only Traefik may read; what is in them is not an argument of rendering.
        "private": sorted(tls.private_files(settings)) if where.private else [],
    }
    rendered = {path: _render(stack, path, values) for path in sorted(stack.folder.glob("*.j2"))}
    # What renders to nothing is not wanted with these settings.
    files = {path.name.removesuffix(".j2"): text.encode() for path, text in rendered.items() if text.strip()}
    compose = files.pop("compose.yml")
    routes = files.pop(ROUTES, b"")
    for path in sorted(stack.folder.iterdir()):
        if path.is_file() and path.suffix != ".j2" and path.name not in _NOT_RENDERED:
            files[path.name] = path.read_bytes()
    for package in stack.packages:
        files |= _package(settings.root / "src", package)
    for name in stack.libraries if where.topology == "split" or where.official else ():
        files |= library(name)
    parsed = yaml.safe_load(compose)
    services = _services(stack, parsed, files, where) if where.topology == "combined" else ()
    # A file of nothing is refused by Traefik, which then goes on with all the routes that it had.
    return Bundle(stack, files, services, routes if routes.strip() else None, parsed)


def public_url(settings: Settings) -> str:
    """Where people and clients reach the gateway, without a slash at the end."""
    gateway = settings.values["gateway"]
    given = gateway["public_url"]
    if not given and settings.values["domain"]:
        return f"https://prefect{settings.env_suffix}.{settings.values['domain']}"
    if not given and settings.target == "fly":
        return f"https://{settings.values['fly']['app']}.fly.dev"
    host = gateway["host"]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return str(given or f"http://{_listen(shown, gateway['port'])}")


def _listen(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _render(stack: Stack, path: Path, values: Mapping[str, Any]) -> str:
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.globals["listen"] = _listen
    host = values["where"].host
    env.globals["on"] = lambda rule: f"Host(`{host}`) && ({rule})" if host else rule
    # Traefik's rules for who asks: a machine with a token; a person's browser that opens a page.
    env.globals["bearer"] = r"HeaderRegexp(`Authorization`, `(?i)^bearer[ \\t]`)"
    env.globals["page"] = "Method(`GET`) && HeaderRegexp(`Accept`, `text/html`)"
    env.globals["sso_host"] = urlsplit(values["sso_url"]).hostname or ""
    env.filters["megabytes"] = lambda size: int(size[:-1]) * (1024 if size[-1] == "g" else 1)
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


def library(name: str) -> dict[str, bytes]:
    """An installed pure-Python package, as the lock pins it: an official image does not have it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{name}: not installed here", "./invoke --list makes the environment anew")
    folder = Path(spec.submodule_search_locations[0])
    return {f"{name}/{path.relative_to(folder)}": path.read_bytes() for path in sorted(folder.rglob("*.py"))}


def _services(stack: Stack, compose: Any, files: Mapping[str, bytes], where: Where) -> tuple[Service, ...]:
    services = []
    for name, spec in compose["services"].items():
        environment: dict[str, str] = {}
        for name_of_file in spec.get("env_file", ()):
            environment |= env_file(files[name_of_file].decode())
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
                {path: content_digest(files, path) for path in spec.get("x-reads", ())},
                tuple(spec.get("x-ports", ())),
            )
        )
    return tuple(services)


def env_file(text: str) -> dict[str, str]:
    """NAME=value lines; # begins a comment line."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def content_digest(files: Mapping[str, bytes], path: str) -> str:
    """The digest of a file, or of all files below a path that ends in a slash."""
    chosen = sorted(name for name in files if name == path or (path.endswith("/") and name.startswith(path)))
    digest = hashlib.sha256()
    for name in chosen:
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()[:16]
