"""What must be true before anything is touched: exit 3 means that nothing was."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from prefect_platform.config import sso
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import PreflightError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan, Step
from prefect_platform.secretstore.store import require_given

from .bundles import unready_bundles


def require_preconditions(platform: Platform, todo: Plan, built: Sequence[Bundle]) -> None:
    """Raises PreflightError: ports, disk, names that do not resolve. Where nothing is to be done, nothing is asked."""
    if todo.steps:
        platform.target.preflight(todo, built)
        require_names(platform)


def require_all(platform: Platform, names: Sequence[str]) -> None:
    """The preconditions of several stacks, before the first of them is touched. Raises ConfigError, PreflightError."""
    for name in names:
        built = unready_bundles(platform, name)
        for each in built:
            require_given_secrets(platform, each)
        services = [service for each in built for service in each.services]
        # As if all of it had to start: a port that the stack's own container has is no conflict.
        platform.target.preflight(Plan(tuple(Step("start", each.full_name, "") for each in services)), built)
    require_names(platform)


def require_given_secrets(platform: Platform, bundle: Bundle) -> None:
    """Raises PreflightError for a secret that must be given and never was."""
    if not any(spec.given for spec in bundle.stack.secrets):
        return
    present: Collection[str] = ()
    # A Vault that is yet to be set up has none; on one machine none is set up, and what its store says is what is wrong.
    not_yet = () if platform.target.traits.combined else (PreflightError,)
    with contextlib.suppress(*not_yet):
        present = platform.target.store.read(bundle.stack.name)
    require_given(bundle.stack, present, os.environ)


def require_names(platform: Platform) -> None:
    """Public names must resolve here: the checks go through them, and so does a certificate. Raises PreflightError."""
    for key, url in _public(platform):
        host = urlsplit(url).hostname or ""
        if not _addresses(host):
            raise PreflightError(
                f"{key}: {host} does not resolve",
                f"create its DNS record (A or AAAA) and wait until `getent hosts {host}` shows the address; or correct the setting",
            )
        if not platform.target.traits.combined:
            publish = platform.settings.values["traefik"]["publish"]
            if said := without_ipv6(publish, host, _addresses(host, socket.AF_INET6)):
                platform.say(f"note: {said}")


def without_ipv6(publish: str, host: str, addresses: Collection[str]) -> str:
    """What clients meet that prefer IPv6 where the name has such addresses and Traefik is on none; empty when all is well. A note, not an
    error: the addresses may be those of a proxy in front.
    """
    if ":" in publish or not addresses:
        return ""
    return (
        f"{host} has an AAAA record ({', '.join(sorted(addresses))}), but platform.traefik.publish {publish} is IPv4 only: "
        'set it to "::" (IPv4 and IPv6), or delete the record, unless a proxy in front has that address'
    )


def _public(platform: Platform) -> list[tuple[str, str]]:
    found = []
    if platform.named_by_settings:
        found.append(("platform.gateway.public_url", platform.url))
    if sso.wanted(platform.settings):
        found.append(("platform.authentik.public_url", sso.public_url(platform.settings)))
    return found


def _addresses(host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, family)}
    except (OSError, UnicodeError):
        return set()
