"""One supervisord program for each service. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from prefect_platform.planning.bundle import Service

_TEMPLATE = Path(__file__).with_name("supervisord.conf.j2")


MARK = "PREFECT_PLATFORM_STATE"


def programs(
    services: Sequence[Service], state: str, secret_versions: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What a template needs of each service: one program. With a `state` folder its processes are marked by it."""
    order = {service.name: index for index, service in enumerate(services)}
    return [
        {
            "name": service.full_name,
            "command": _escaped(shlex.join(service.argv)),
            "environment": _environment(service, state, secret_versions.get(service.stack, "")),
            "directory": _escaped(service.working_dir),
            "priority": 100 + order[service.name],
            "stop_signal": service.stop_signal,
            "stop_seconds": service.stop_seconds,
        }
        for service in services
    ]


def configuration(
    state: str, env: str, services: Sequence[Service], secret_versions: Mapping[str, str]
) -> str:
    """supervisord.conf: one program per service. A changed digest is a changed program in supervisord's eyes as well."""
    each = programs(services, state, secret_versions)
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(
        _TEMPLATE.read_text()
    )
    return template.render(state=_escaped(state), identifier=f"prefect-platform-{env}", programs=each)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _environment(service: Service, state: str, secret_version: str) -> str:
    version = secret_version if service.needs_secrets else ""
    values = dict(service.environment)
    if state:
        values |= {MARK: state, "PREFECT_PLATFORM_DIGEST": f"{service.digest()}{version}"}
    # supervisord reads this line with shlex, double quotes around, so only these two need a backslash.
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values.values())
    return _escaped(",".join(f'{name}="{value}"' for name, value in zip(values, quoted, strict=True)))
