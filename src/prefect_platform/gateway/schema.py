"""The two tables.

`gateway_tokens` never holds a token, `gateway_login_codes` never a code: only ids and hashes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Column, DateTime, Dialect, MetaData, String, Table, TypeDecorator


class UtcTime(TypeDecorator[int]):
    """Unix seconds in Python, a readable UTC timestamp in the database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = datetime.fromtimestamp(value, UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        return int((value.replace(tzinfo=UTC) if value.tzinfo is None else value).timestamp())


METADATA = MetaData()
TOKENS = Table(
    "gateway_tokens",
    METADATA,
    Column("jti", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("project", String(80), nullable=False),
    Column("service", String(80), nullable=False),
    Column("description", String(200), nullable=False),
    Column("scope", String(1000), nullable=False),
    Column("issued_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
)
LOGIN_CODES = Table(
    "gateway_login_codes",
    METADATA,
    Column("code_hash", String(64), primary_key=True),
    Column("scope", String(1000), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
)
