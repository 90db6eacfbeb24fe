"""The Vault agent beside a stack: its Compose service, its configuration, and which values it renders. Pure but for reading templates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack

PREFIX = "platform-"
"""Before the names of containers, networks and volumes on the host."""
SECRETS = "/vault/secrets"
"""Where containers have what the agent renders: in memory, in a volume of the stack."""
ENV_FILE = f"{SECRETS}/.env"
_LOGIN = "/vault/approle"


def service(settings: Settings, stack: Stack, folder: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The Compose service of the agent, and its files."""
    section: Mapping[str, Any] = settings.values["vault"]
    configuration = render(
        settings,
        "agent.hcl.j2",
        address=section["address"] or f"http://{container(settings)}:8200",
        ca_cert=section["ca_cert"] and "/platform/app/ca.pem",
        approle=_LOGIN,
        render_seconds=section["render_interval"],
        source="/platform/app/secrets.ctmpl",
        destination=ENV_FILE,
        perms="0400",
    )
    files = {
        "agent.hcl": configuration.encode(),
        "secrets.ctmpl": render(settings, "secrets.ctmpl.j2", sources=sources(settings, stack)).encode(),
    }
    if section["ca_cert"]:
        files["ca.pem"] = (settings.root / section["ca_cert"]).read_bytes()
    spec = {
        "image": section["image"],
        "command": ["agent", "-config=/platform/app/agent.hcl"],
        "environment": {"SKIP_CHOWN": "1", "HOME": "/tmp"},
        "networks": ["agents"],
        "mem_limit": "128m",
        "tmpfs": ["/tmp"],
        "volumes": [f"{folder}/approle:{_LOGIN}:ro", f"secrets:{SECRETS}:nocopy"],
        # Seldom: what was rendered once stays, and each look costs more than what it asks: the engine starts a process in the container.
        "healthcheck": {"test": ["CMD", "test", "-s", ENV_FILE], "interval": "30s"},
    }
    return spec, files


def sources(settings: Settings, stack: Stack) -> dict[str, dict[str, str]]:
    """KV path → name in the environment → key there: the stack's own secrets and those it takes from others."""
    found: dict[str, dict[str, str]] = {}
    for spec in stack.secrets:
        owner, _, key = spec.source.partition("/")
        path = f"{settings.values['vault']['mount']}/data/platform/{settings.env}/{owner or stack.name}"
        found.setdefault(path, {})[spec.name] = key or spec.name
    return found


def quoted(text: str) -> str:
    """A string literal of HCL and of Go's templates, for any text: neither a quote, a newline nor `${` ends or opens anything."""
    # Characters beyond ASCII stand for themselves: JSON would write some as surrogate pairs, which neither language knows.
    return json.dumps(text, ensure_ascii=False).replace("$", "\\u0024").replace("\x7f", "\\u007f")


def render(settings: Settings, template: str, **values: Any) -> str:
    """A template of vault/, whose values go through `quoted`."""
    import jinja2  # not before it is needed: most commands render nothing

    text = (settings.vault_folder / template).read_text()
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.filters["quoted"] = quoted
    return env.from_string(text).render(values)


def container(settings: Settings) -> str:
    """Our own Vault's container."""
    return f"{PREFIX}{settings.roles.secrets}"


def inner_network(settings: Settings) -> str:
    """Where agents reach our own Vault; it has no route to the outside, and the container's name."""
    return container(settings)


def external(settings: Settings) -> bool:
    """Whether the environment uses an external Vault."""
    return bool(settings.values["vault"]["address"])


def network(settings: Settings) -> str:
    """The agents' network: one with a way out where Vault runs elsewhere."""
    return f"{container(settings)}-external" if external(settings) else inner_network(settings)
