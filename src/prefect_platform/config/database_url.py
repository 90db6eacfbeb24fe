"""A PostgreSQL that runs elsewhere, from the URL that its provider shows: Prefect's settings, and notes on what was read differently. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from prefect_platform.config import credentials
from prefect_platform.errors import ConfigError

KEY = "platform.prefect.database_url"
SECRET = "PREFECT_SERVER_DATABASE_PASSWORD"  # noqa: S105 - a name
EXAMPLE = "like postgresql://postgres@db.abcdefgh.supabase.co:5432/postgres"
_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_KNOWN = ("sslmode", "sslrootcert", "pgbouncer")
_POOLER_PORT = 6543
"""Where Supabase's pooler hands out connections for one transaction at a time."""
_NEAR = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Database:
    """`pooled`: connections last for one transaction, so prepared statements cannot be kept. `notes` are for a person."""

    host: str
    port: int
    name: str
    user: str
    sslmode: str
    sslrootcert: str
    pooled: bool
    notes: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}/{self.name}"


def parse(url: str) -> Database:
    """Raises ConfigError naming the key, what is wrong and what to write instead."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or 5432
    except ValueError:
        raise ConfigError(f"{KEY}: not a URL with a port from 1 to 65535", EXAMPLE) from None
    if parts.scheme not in _SCHEMES:
        raise ConfigError(f"{KEY}: {parts.scheme or 'no scheme'}: must be a PostgreSQL URL", EXAMPLE)
    if parts.password is not None:
        raise credentials.refusal(KEY, ("prefect", SECRET), "")
    if parts.fragment:
        raise ConfigError(f"{KEY}: a URL of a database ends before '#'", f"write # as %23; {EXAMPLE}")
    name = unquote(parts.path.removeprefix("/"))
    for what, value in (("host", parts.hostname), ("user", parts.username), ("name of the database", name)):
        if not value:
            raise ConfigError(f"{KEY}: no {what} in it", EXAMPLE)
    asked = _query(parts.query)
    host = str(parts.hostname)
    pooled, notes = _pooled(port, asked.get("pgbouncer", "")), []
    if parts.scheme != "postgresql+asyncpg":
        notes.append(f"{parts.scheme}:// is read as postgresql+asyncpg://, the driver that Prefect has")
    if pooled:
        notes.append(f"port {port} is a transaction pooler: prepared statements are disabled")
    mode = asked.get("sslmode", "")
    if not mode:
        mode = "prefer" if host in _NEAR or host.endswith((".internal", ".flycast")) else "require"
        if mode == "require":
            notes.append(
                "TLS is required by default; ?sslmode=verify-full also verifies the server's name, ?sslmode=disable turns it off"
            )
    return Database(
        host,
        port,
        name,
        unquote(str(parts.username)),
        mode,
        asked.get("sslrootcert", ""),
        pooled,
        tuple(notes),
    )


def _query(text: str) -> dict[str, str]:
    asked = dict(parse_qsl(text, keep_blank_values=True))
    unknown = sorted(set(asked) - set(_KNOWN))
    if unknown:
        raise ConfigError(
            f"{KEY}: ?{unknown[0]}= is not supported; use one of: {', '.join(_KNOWN)}", "leave it out"
        )
    if (mode := asked.get("sslmode")) is not None and mode not in _SSLMODES:
        raise ConfigError(f"{KEY}: sslmode={mode}: one of {', '.join(_SSLMODES)}", "?sslmode=require")
    if asked.get("sslmode", "").startswith("verify-") and not asked.get("sslrootcert"):
        raise ConfigError(
            f"{KEY}: sslmode={asked['sslmode']} needs the provider's root certificate",
            "add &sslrootcert=/path/on/the/machine.crt",
        )
    return asked


def _pooled(port: int, said: str) -> bool:
    return said == "true" or (port == _POOLER_PORT and said != "false")
