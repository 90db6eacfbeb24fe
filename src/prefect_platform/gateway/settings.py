"""The gateway's configuration: environment variables in, one validated frozen value out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from prefect_platform.gateway.errors import UsageError
from prefect_platform.gateway.keys import Keyset, parse_keyset
from prefect_platform.gateway.sso import Policy
from prefect_platform.gateway.sso import parse as parse_sso

SESSION_SECONDS = 12 * 3600
LOGIN_CODE_SECONDS = 300


@dataclass(frozen=True)
class Settings:
    database_url: str = field(repr=False)
    keys: Keyset = field(repr=False)
    issuer: str
    audience: str
    public_url: str
    host: str
    port: int
    home_path: str
    max_stale_seconds: int
    sso: Policy = field(default_factory=Policy)

    @property
    def secure(self) -> bool:
        return self.public_url.startswith("https://")

    @property
    def cookie_name(self) -> str:
        """Browsers share cookies among all ports of a host: two platforms on one machine need two names."""
        port = urlsplit(self.public_url).port
        name = "platform_session" if port is None else f"platform_session_{port}"
        return f"__Host-{name}" if self.secure else name

    @property
    def return_cookie(self) -> str:
        """Names the page that a person without a session asked for."""
        return self.cookie_name.replace("__Host-", "__Secure-").replace("session", "return")


def database_url(environ: Mapping[str, str]) -> str:
    """GATEWAY_DATABASE_URL, completed with GATEWAY_DATABASE_PASSWORD: the URL is configuration, the password a secret."""
    url, password = _required(environ, "GATEWAY_DATABASE_URL"), environ.get("GATEWAY_DATABASE_PASSWORD", "")
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.partition("@")
    if not (password and at) or set(user) & set(":/?#"):
        return url
    return f"{scheme}{separator}{user}:{quote(password, safe='')}@{host}"


def public_url(environ: Mapping[str, str]) -> str:
    """The origin that browsers and clients use: scheme://host[:port], without a path."""
    name = "GATEWAY_PUBLIC_URL"
    value = _required(environ, name).rstrip("/")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise UsageError(f"{name}: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{name}: must be http://host[:port] or https://host[:port]")
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        raise UsageError(f"{name}: must not have a path")
    return value


def load(environ: Mapping[str, str]) -> Settings:
    """All settings.

    Raises UsageError naming the first variable that is missing or malformed (never its value).
    """
    return Settings(
        database_url=database_url(environ),
        keys=parse_keyset(_required(environ, "GATEWAY_SIGNING_KEYS")),
        issuer=_required(environ, "GATEWAY_ISSUER"),
        audience=environ.get("GATEWAY_AUDIENCE") or "prefect-platform",
        public_url=public_url(environ),
        host=environ.get("GATEWAY_HOST") or "127.0.0.1",
        port=_integer(environ, "GATEWAY_PORT", 8300, 1, 65535),
        home_path=_home_path(environ.get("GATEWAY_HOME_PATH") or "/prefect/"),
        max_stale_seconds=_integer(environ, "GATEWAY_MAX_STALE_SECONDS", 300, 1, 3600),
        sso=parse_sso(environ.get("GATEWAY_SSO", "").strip()),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise UsageError(f"{name}: not set")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise UsageError(f"{name}: must be a number from {low} to {high}")
    return int(text)


def _home_path(path: str) -> str:
    # `//host` and `/\host` are other hosts to a browser: the login must never redirect away from here.
    plain = path.isascii() and path.isprintable() and " " not in path
    if not plain or not path.startswith("/") or path.startswith("//") or "\\" in path:
        raise UsageError("GATEWAY_HOME_PATH: must be a path on this host, such as /prefect/")
    return path
