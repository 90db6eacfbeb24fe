"""TLS of the public address: what the settings may say, whom our own checks trust, and what the port really serves."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect_platform.errors import ConfigError

from .settings import Settings

_GIVEN = {
    "own": ("certificate", "private_key"),
    "acme": ("acme_server", "acme_ca_cert", "acme_dns_provider", "acme_dns_credentials"),
}


@dataclass(frozen=True)
class Certificate:
    """What matters of one. `names` are DNS names and addresses."""

    names: tuple[str, ...]
    issuer: str
    ends: datetime.datetime

    @property
    def days(self) -> int:
        return (self.ends - datetime.datetime.now(datetime.UTC)).days

    def covers(self, host: str) -> bool:
        parent = host.partition(".")[2]
        return host in self.names or f"*.{parent}" in self.names


def validate(settings: Settings) -> None:
    """Raises ConfigError for contradicting keys, a missing file, a key that does not match, an expired certificate."""
    if not settings.traits.tls:
        return
    section = settings.values["traefik"]
    for kind, keys in _GIVEN.items():
        for key in keys:
            if section[key] and section["tls"] != kind:
                raise ConfigError(f"platform.traefik.{key} is for tls: {kind}, but tls is {section['tls']}")
    for place, value in _files(settings):
        if value and not (settings.root / value).is_file():
            raise ConfigError(f"{place}: no such file: {value}", "the path is relative to the repository")
    if section["tls"] == "own":
        _validate_pair(settings, section)
    if bool(section["acme_dns_provider"]) != bool(section["acme_dns_credentials"]):
        raise ConfigError(
            "platform.traefik: acme_dns_provider and acme_dns_credentials belong together",
            "the file holds the provider's variables, one NAME=value per line",
        )
    if section["acme_dns_credentials"]:
        credentials(settings)


def _files(settings: Settings) -> list[tuple[str, str | None]]:
    section = settings.values["traefik"]
    keys = ("certificate", "private_key", "acme_ca_cert", "acme_dns_credentials")
    own = [(f"platform.traefik.{key}", section[key]) for key in keys]
    return [*own, ("platform.gateway.ca_cert", settings.values["gateway"]["ca_cert"])]


def _validate_pair(settings: Settings, section: dict[str, Any]) -> None:
    for key in _GIVEN["own"]:
        if not section[key]:
            raise ConfigError(
                f"platform.traefik.{key}: tls: own needs it", "a PEM file, relative to the repository"
            )
    paths = [settings.root / section[key] for key in _GIVEN["own"]]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*paths)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"platform.traefik.private_key: {section['private_key']} does not match certificate {section['certificate']}, or one of them is not a PEM file ({error})",
            "the certificate file holds the chain, leaf first; the key must have no passphrase",
        ) from None
    found = read(paths[0].read_bytes())
    if found.days < 0:
        raise ConfigError(
            f"platform.traefik.certificate: {section['certificate']} ended on {found.ends:%Y-%m-%d}"
        )


def credentials(settings: Settings) -> dict[str, str]:
    """The DNS provider's variables. Raises ConfigError with the line that is none."""
    hint = "use the variable names of the provider's page in Traefik's documentation"
    return variables(settings.root, settings.values["traefik"]["acme_dns_credentials"], hint)


def variables(root: Path, file: str, hint: str) -> dict[str, str]:
    """NAME=value lines of a file of the operator; # begins a comment line. Raises ConfigError with the line that is none."""
    found = {}
    for number, line in enumerate((root / file).read_text().splitlines(), 1):
        name, equals, value = line.partition("=")
        if line.strip() and not line.startswith("#"):
            if not (equals and name.isidentifier() and name.isupper()):
                raise ConfigError(f"{file}:{number}: not NAME=value", hint)
            found[name] = value
    return found


def read(data: bytes) -> Certificate:
    """From PEM (the first of a chain) or DER. Raises ValueError."""
    from cryptography import x509

    found = (
        x509.load_pem_x509_certificate(data)
        if data.startswith(b"-----")
        else x509.load_der_x509_certificate(data)
    )
    names: tuple[str, ...] = ()
    try:
        more = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (
            *more.get_values_for_type(x509.DNSName),
            *map(str, more.get_values_for_type(x509.IPAddress)),
        )
    except x509.ExtensionNotFound:
        pass
    return Certificate(names, found.issuer.rfc4514_string(), found.not_valid_after_utc)


def trust(settings: Settings) -> ssl.SSLContext | None:
    """Whom our own checks believe. A certificate that Traefik made for itself proves nothing, so it is not asked for proof."""
    ca_cert = settings.values["gateway"]["ca_cert"]
    if ca_cert:
        return ssl.create_default_context(cafile=str(settings.root / ca_cert))
    if settings.traits.tls and settings.values["traefik"]["tls"] == "self-signed":
        return blind()
    return None


def blind() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def private_names(settings: Settings) -> list[str]:
    """Paths of `private_files`, sorted; each in a folder named by content, so that Traefik starts anew with a new one. Reads no private key."""
    section, root = settings.values["traefik"], settings.root
    found = []
    if section["tls"] == "own":
        folder = digest(root, section["certificate"])
        found += [f"{folder}/{key}.pem" for key in _GIVEN["own"]]
    if section["acme_dns_credentials"]:
        folder = digest(root, section["acme_dns_credentials"])
        found += [f"{folder}/{name}" for name in credentials(settings)]
    if section["acme_ca_cert"]:
        found.append(f"{digest(root, section['acme_ca_cert'])}/acme_ca_cert.pem")
    return sorted(found)


def private_files(settings: Settings) -> dict[str, bytes]:
    """What only Traefik may read, by path below its private folder on the host."""
    section, root = settings.values["traefik"], settings.root
    given = credentials(settings) if section["acme_dns_credentials"] else {}

    def content(path: str) -> bytes:
        name = path.rpartition("/")[2]
        if name in given:
            return given[name].encode()
        return Path(root / section[name.removesuffix(".pem")]).read_bytes()

    return {path: content(path) for path in private_names(settings)}


def digest(root: Path, file: str) -> str:
    """A name for a file's content."""
    import hashlib

    return hashlib.sha256((root / file).read_bytes()).hexdigest()[:16]
