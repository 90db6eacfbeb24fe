"""Stack + Settings + Where → Bundle. Pure but for reading the stack's folder."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from prefect_platform.config import database_url, private_files, route_targets, routes, sso
from prefect_platform.config.client_settings import client_settings
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.config.urls import listen, public_url
from prefect_platform.errors import ConfigError
from prefect_platform.files import parse_yaml
from prefect_platform.planning.bundle import PLUGINS, Bundle, Service, content_digest
from prefect_platform.planning.where import Where

ROUTES = "routes.yml"

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~*?&\[\]-]*")
_NOT_RENDERED = {"stack.yml", "README.md", "compose.yml.j2"}


_SIGNALS = {"SIGTERM": "TERM", "SIGINT": "INT", "SIGQUIT": "QUIT"}


def build(stack: Stack, settings: Settings, where: Where, memory: int = 0) -> Bundle:
    """Render a stack. Secret names may appear, values cannot: they are not an argument. Raises ConfigError with the template's place.

    `memory` is the host's, in bytes: what nothing else limits takes its share of it.
    """
    values = _values(stack, settings, where, memory)
    rendered = {path: _render(stack, path, values) for path in sorted(stack.folder.glob("*.j2"))}
    # What renders to nothing is not wanted with these settings.
    files = {path.name.removesuffix(".j2"): text.encode() for path, text in rendered.items() if text.strip()}
    compose = files.pop("compose.yml")
    dynamic = files.pop(ROUTES, b"")
    for path in sorted(stack.folder.iterdir()):
        if path.is_file() and path.suffix != ".j2" and path.name not in _NOT_RENDERED:
            files[path.name] = path.read_bytes()
    for path in sorted((stack.folder / PLUGINS).rglob("*")):
        if path.is_file():
            files[str(path.relative_to(stack.folder))] = path.read_bytes()
    for package in stack.packages:
        files |= _package(settings.root / "src", package)
    for name in stack.libraries if where.topology == "split" or where.official else ():
        files |= library(name)
    parsed = _parsed(stack, compose)
    services = _services(stack, parsed, files, where) if where.topology == "combined" else ()
    # Traefik refuses an empty file and keeps all the routes that it had.
    return Bundle(stack, files, services, dynamic if dynamic.strip() else None, parsed)


def connections(stack: Stack, settings: Settings, where: Where) -> int:
    """How many connections to the shared PostgreSQL the pools of a stack's services open together. Raises ConfigError."""
    text = _render(stack, stack.folder / "compose.yml.j2", _values(stack, settings, where, 0))
    services = _parsed(stack, text.encode())["services"].values()
    return sum((spec or {}).get("x-connections", 0) for spec in services)


def _values(stack: Stack, settings: Settings, where: Where, memory: int) -> dict[str, Any]:
    """What the templates can use."""
    sso_url = sso.known_url(settings)
    return {
        "settings": settings.values,
        "client_settings": client_settings(settings.values),
        "where": where,
        "memory": memory,
        "topology": where.topology,
        "env": settings.env,
        "public_url": public_url(settings),
        "sso": sso.doors(settings, where.host, where.address("authentik", "server")) if where.host else None,
        "sso_url": sso_url,
        "sso_host": urlsplit(sso_url).hostname or "",
        "database": database_url.parse(url) if (url := settings.values["prefect"]["database_url"]) else None,
        # Names of the files that only the stack may read; what is in them is not an argument of rendering.
        "private": private_files.names(settings, stack) if where.private else [],
        **_rules(settings, where),
    }


def _rules(settings: Settings, where: Where) -> dict[str, Any]:
    """Traefik's rules, for templates of routes."""
    own, platform = settings.values["gateway"]["routes"], route_targets.platform_of(settings)
    # Where Prefect answers under any name: the names that are a service's.
    foreign = [] if where.host else routes.foreign_hosts(own, platform)
    others = " && ".join(f"!Host(`{each}`)" for each in foreign)

    def on(rule: str) -> str:
        return f"Host(`{where.host}`) && ({rule})" if where.host else rule

    return {
        "own_routes": routes.routed(own, platform),
        "foreign_hosts": foreign,
        "on": on,
        # For what accepts a session, or would take a path of a service that has a host to itself.
        "at_home": lambda rule: f"{others} && ({rule})" if others else on(rule),
        # By client: a machine with a token; a person's browser that opens a page.
        "bearer": r"HeaderRegexp(`Authorization`, `(?i)^bearer[ \t]`)",
        "odd_path": f"PathRegexp(`{routes.PARENT}`)",
        "our_cookie": "HeaderRegexp(`Cookie`, `(?i)platform_(session|return)|authentik_proxy`)",
        "page": "Method(`GET`) && HeaderRegexp(`Accept`, `text/html`)",
    }


def _render(stack: Stack, path: Path, values: Mapping[str, Any]) -> str:
    import jinja2  # not before it is needed: most commands render nothing

    try:
        return str(_template(path.read_text()).render(values))
    except jinja2.TemplateError as error:
        raise ConfigError(f"stacks/{stack.name}/{path.name}: {error}") from None


@cache
def _template(text: str) -> Any:
    """Compiled once: a setup renders what it applies and, before, what shares a PostgreSQL with it."""
    import jinja2

    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.globals["listen"] = listen
    env.filters["megabytes"] = lambda size: int(size[:-1]) * (1024 if size[-1] == "g" else 1)
    env.filters["yaml"] = yaml_text
    env.filters["env"] = env_text
    env.filters["wrapped"] = lambda rule: f"({rule})"
    return env.from_string(text)


def yaml_text(value: object) -> str:
    """Any value as text in YAML. Braces that Traefik would take for a Go template are written as escapes."""
    quoted = yaml.safe_dump(str(value), default_style='"', width=1_000_000, allow_unicode=False)
    return quoted.rstrip("\n").replace("{{", r"\x7b\x7b")


def env_text(value: object) -> str:
    """A value of a NAME=value line: as it is, or in JSON's quotes where a line could not hold it. `env_file` reads it back."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _parsed(stack: Stack, compose: bytes) -> Any:
    try:
        return parse_yaml(compose)
    except yaml.YAMLError as error:
        # Without the error's text, which quotes the line.
        line = (
            error.problem_mark.line + 1
            if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark
            else 0
        )
        raise ConfigError(
            f"stacks/{stack.name}/compose.yml.j2: line {line} of what it renders to is not YAML"
        ) from None


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
        raise ConfigError(f"{name}: not installed here", "./invoke --list rebuilds the environment")
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
    """NAME=value lines, a value as `env_text` writes it; # begins a comment line."""
    lines = (line.split("=", 1) for line in text.split("\n") if line and not line.startswith("#"))
    return {name: json.loads(value) if value.startswith('"') else value for name, value in lines}
