"""A proxy application in Authentik: wanted and observed state, one change, and its report. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from prefect_platform.errors import ConfigError

from .client import Json

# The default flows that a provider needs, by their slugs.
AUTHORIZATION = "default-provider-authorization-implicit-consent"
INVALIDATION = "default-provider-invalidation-flow"
OUTPOST = "embedded"
"""What we call the outpost inside the server."""


@dataclass(frozen=True)
class Wanted:
    """`external_host` is where people reach it, `internal` the service behind; `groups` of which one is enough.

    `everyone`: no group is meant. `sso_url` is Authentik's public URL; `own`: it is ours to say.
    """

    name: str
    slug: str
    external_host: str
    internal: str
    groups: tuple[str, ...]
    sso_url: str
    everyone: bool = False
    create_groups: bool = False
    adopt: bool = False
    own: bool = False


@dataclass(frozen=True)
class Observed:
    """What Authentik has. `providers` are those of the wanted name or of the application, `groups` name → pk of those that exist."""

    flows: Mapping[str, str]
    groups: Mapping[str, str]
    providers: tuple[Json, ...]
    application: Json | None
    bindings: tuple[Json, ...]
    outpost: Json


@dataclass(frozen=True)
class Change:
    """One request. Where a body needs the key of what is made before it, it says `(new)`."""

    action: Literal["created", "updated", "removed"]
    kind: str
    name: str
    method: str
    path: str
    cause: str = ""
    body: Json | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name}{': ' + self.cause if self.cause else ''}"


def wanted(
    name: str,
    slug: str,
    external_host: str,
    internal_host: str,
    port: int,
    groups: Sequence[str],
    sso_url: str,
    **more: bool,
) -> Wanted:
    """From what a person says. Raises ConfigError for what cannot be meant."""
    if not name.strip():
        raise ConfigError("--name: is empty")
    if not slug or not all(each.isascii() and (each.isalnum() or each in "-_") for each in slug):
        raise ConfigError(f"--slug {slug!r}: letters, digits, dashes and underscores only")
    if not 0 < port < 65536:
        raise ConfigError(f"--port {port}: between 1 and 65535")
    if not groups and not more.get("everyone"):
        raise ConfigError(
            "--allowed-groups: required: without a group the application is open to every Authentik user",
            "--allowed-groups=admins, or confirm with --everyone",
        )
    if groups and more.get("everyone"):
        raise ConfigError("--everyone and --allowed-groups: one of the two")
    return Wanted(
        name,
        slug,
        origin(external_host),
        f"http://{internal_host}:{port}",
        tuple(dict.fromkeys(groups)),
        sso_url,
        **more,
    )


def origin(url: str) -> str:
    """Scheme and host, as they are compared: lower case, nothing after. Raises ConfigError."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path not in ("", "/")
        or parts.query
    ):
        raise ConfigError(
            f"--external-host {url!r}: a URL like https://prefect.example.com, without a path",
            "single sign-on covers a whole host; a path belongs to its host's application",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    standard = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}{f':{port}' if port and port != standard else ''}"


def binding_name(slug: str, group: str) -> str:
    return f"{slug} ← {group}"


def outcome(want: Wanted, changes: Sequence[Change]) -> list[dict[str, str]]:
    """Per object that is wanted: created, updated or unchanged; then what was removed. Keys action, kind, name, cause are stable."""
    objects = [
        *(("group", name) for name in want.groups),
        ("provider", want.name),
        ("application", want.slug),
        *(("binding", binding_name(want.slug, name)) for name in want.groups),
        ("outpost", OUTPOST),
    ]
    told = [_told(kind, name, changes) for kind, name in objects]
    gone = [each for each in changes if each.action == "removed"]
    return told + [_line("removed", each.kind, each.name, each.cause) for each in gone]


def _told(kind: str, name: str, changes: Sequence[Change]) -> dict[str, str]:
    mine = [each for each in changes if (each.kind, each.name) == (kind, name) and each.action != "removed"]
    if not mine:
        return _line("unchanged", kind, name)
    if mine[0].action == "created":  # and then completed
        return _line("created", kind, name)
    return _line("updated", kind, name, ", ".join(each.cause for each in mine))


def _line(action: str, kind: str, name: str, cause: str = "") -> dict[str, str]:
    return {"action": action, "kind": kind, "name": name, "cause": cause}
