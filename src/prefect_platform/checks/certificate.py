"""How long the certificate that is served stays valid."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

from prefect_platform.checks.check import Check
from prefect_platform.config.settings import Settings
from prefect_platform.config.tls import Certificate, blind, read

WARN_DAYS = 14
"""Let's Encrypt's are renewed thirty days before their end: with fewer left than this, that has failed for weeks."""


_DEFAULT = "TRAEFIK DEFAULT CERT"


_TIMEOUT = 5.0


def check(settings: Settings, url: str) -> Check | None:
    """What the public port serves, and for how long; None for plain HTTP."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    began = time.monotonic()
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), _TIMEOUT) as plain,
            blind().wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            data = secure.getpeercert(binary_form=True) or b""
    except OSError as error:
        why = f"{url}: no TLS connection: {error}"
        return Check("certificate", False, why, time.monotonic() - began, "./invoke traefik.logs")
    ok, detail, hint = _judged(read(data), parts.hostname, settings)
    return Check("certificate", ok, detail, time.monotonic() - began, hint)


def _judged(found: Certificate, host: str, settings: Settings) -> tuple[bool, str, str]:
    kind = settings.values["traefik"]["tls"] if settings.traits.tls else "own"
    told = f"until {found.ends:%Y-%m-%d} ({found.days} days), by {found.issuer}"
    if kind == "self-signed":
        return True, f"{told}: browsers do not trust it", ""
    if _DEFAULT in found.issuer:
        hint = "./invoke traefik.logs; check that the name resolves to this host and that port 80 is open"
        return False, "Traefik serves its default certificate: no certificate for this name", hint
    if not found.covers(host):
        return (
            False,
            f"it is for {', '.join(found.names) or 'nobody'}, not for {host}",
            "./invoke traefik.logs",
        )
    if found.days < WARN_DAYS:
        hint = "./invoke traefik.logs" if kind == "acme" else "replace it, then ./invoke traefik.setup"
        return False, f"expires soon: {told}", hint
    return True, told, ""
