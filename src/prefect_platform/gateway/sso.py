"""Who the single sign-on says is asking, and what that person may do here. Pure.

Traefik asks Authentik's outpost first and us second: on the way to us the request has the identity headers that the
outpost answered with, and no others, for those of the client are taken off before. A yes of the outpost without an
identity has happened (CVE-2026-25748), so none is taken for granted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers

from prefect_platform.gateway.errors import Refused, UsageError

EVERYONE = "*"
MAX_NAME = 255
_BLANK = " \t"  # not what Unicode calls blank: that would eat bytes of UTF-8 read as Latin-1


@dataclass(frozen=True)
class Policy:
    """`groups`: scope → groups of which one is enough; a missing scope has no single sign-on."""

    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    admins: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Person:
    name: str
    groups: frozenset[str]

    def may_use(self, policy: Policy, scope: str) -> bool:
        allowed = policy.groups.get(scope, frozenset())
        return EVERYONE in allowed or bool(allowed & self.groups)

    def headers(self, policy: Policy) -> dict[str, str]:
        """The identity header for the service behind. The colon keeps people apart from tokens, whose subjects have none."""
        role = "admin" if policy.admins & self.groups else "user"
        return {
            "X-Platform-Subject": f"user:{self.name}",
            "X-Platform-User": self.name,
            "X-Platform-Role": role,
        }


def parse(text: str) -> Policy:
    """`{"groups": {"prefect": ["admins"]}, "admins": ["admins"]}`. Raises UsageError."""
    if not text:
        return Policy()
    try:
        data = json.loads(text)
        groups = {str(scope): _names(names) for scope, names in data["groups"].items()}
        return Policy(groups, _names(data["admins"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError("GATEWAY_SSO: must be JSON like {groups: {scope: [name]}, admins: [name]}") from None


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ValueError
    # As they come in headers: bytes of UTF-8, which HTTP libraries read as Latin-1.
    return frozenset(name.encode().decode("latin-1") for name in value)


def person(headers: Headers) -> Person:
    """Raises Refused without exactly one plain name."""
    names, groups = headers.getlist("x-authentik-username"), headers.getlist("x-authentik-groups")
    if len(names) != 1 or len(groups) > 1:
        raise Refused
    name = names[0].strip(_BLANK)
    if not name or len(name) > MAX_NAME or any(ord(each) < 32 or ord(each) == 127 for each in name):
        raise Refused
    told = groups[0].split("|") if groups else []
    return Person(name, frozenset(each.strip(_BLANK) for each in told) - {""})
