"""Where a user's route may lead: not into the platform, whose services trust who reaches them, nor to a cloud's metadata. Pure."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from prefect_platform.config import urls
from prefect_platform.config.settings import Settings
from prefect_platform.errors import ConfigError

KEY = "platform.gateway.routes"
PORTS = (
    ("gateway", "port"),
    ("gateway", "verifier_port"),
    ("gateway", "auth_port"),
    ("gateway", "ops_port"),
    ("prefect", "port"),
)
"""What listens on one machine, where that is all there is."""
_LOCAL_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
_METADATA_NAMES = {
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
}
_METADATA = {
    ipaddress.ip_address(each)
    for each in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
}
"""Those of AWS and Google by IPv6, Alibaba, Azure and Oracle; the others' are link-local."""
_GUARDED = ("prefect", "gateway", "vault")
"""Stacks that only the gateway may reach; Authentik guards itself."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Platform:
    """What routes must keep clear of. `hosts` are the names under which Prefect is opened; `route_host` is the host of a route that names
    none, empty for every host; `at_root` whether Prefect has a host to itself; `ports` are our own on loopback, empty for all of them, and
    `front` the public address and port.
    """

    hosts: frozenset[str]
    route_host: str
    at_root: bool
    ports: frozenset[int]
    front: frozenset[tuple[str, int]]
    containers: tuple[str, ...]


def ports(chosen: Settings) -> list[tuple[str, int]]:
    """(key, port) of what listens on one machine."""
    return [(f"platform.{section}.{key}", chosen.values[section][key]) for section, key in PORTS]


def platform_of(chosen: Settings) -> Platform:
    public, gateway = urlsplit(urls.public_url(chosen)), chosen.values["gateway"]
    host = (public.hostname or "").rstrip(".")
    front = frozenset({(host, _port(public.scheme, public.port)), (gateway["host"].lower(), gateway["port"])})
    if not chosen.traits.combined:
        return Platform(frozenset({host}), host, True, frozenset(), front, _GUARDED)
    here = frozenset({host, gateway["host"].lower(), "localhost", "127.0.0.1"})
    return Platform(here, "", False, frozenset(port for _, port in ports(chosen)), front, ())


def check(place: str, url: str, platform: Platform) -> None:
    """Raises ConfigError. Names are not resolved: what a name server will say tomorrow is not known here."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    port, address = _port(parts.scheme, parts.port), _address(host)
    if host in _METADATA_NAMES or (address and (address.is_link_local or address in _METADATA)):
        raise ConfigError(
            f"{place}: url {url}: link-local and metadata addresses are not allowed: they hand out the machine's credentials",
            "the service's own address",
        )
    inside = host in _LOCAL_NAMES or host.endswith(".localhost") or _is_local(address)
    if inside and (port in platform.ports or not platform.ports):
        raise ConfigError(f"{place}: url {url}: leads into the platform itself", _hint(platform))
    if (host, port) in platform.front or _is_container(host, platform):
        raise ConfigError(f"{place}: url {url}: leads into the platform itself", _hint(platform))


def _hint(platform: Platform) -> str:
    if platform.ports:
        return (
            "the address and port of another service; Prefect and the gateway's own paths are served already"
        )
    return "the name of another container or host; in Traefik's container, loopback is Traefik itself"


def _is_container(host: str, platform: Platform) -> bool:
    names = [f"platform-{each}" for each in platform.containers]
    return any(host == name or host.startswith(f"{name}-") for name in names)


def _is_local(address: Address | None) -> bool:
    return address is not None and (address.is_loopback or address.is_unspecified)


def _port(scheme: str, port: int | None) -> int:
    return port or (443 if scheme == "https" else 80)


def _address(host: str) -> Address | None:
    """Also of an address as the C library reads it: `127.1`, `0x7f000001`, `2130706433`."""
    try:
        found: Address = ipaddress.ip_address(host)
    except ValueError:
        try:
            found = ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped
    return found
