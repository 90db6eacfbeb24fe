"""What the command line does: issue, list and revoke tokens, create a login link.

Data to stdout, talk to stderr.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from prefect_platform.gateway import settings as configuration
from prefect_platform.gateway.database import parse
from prefect_platform.gateway.errors import UsageError
from prefect_platform.gateway.store import Record, Store
from prefect_platform.gateway.tokens import NAME, SCOPE, Kind, grant, hash_code, mint

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
MAX_SECONDS = 5 * 366 * 86400


def parse_duration(text: str) -> int:
    """`12h`, `90d`, `52w` -> seconds. Raises UsageError."""
    match = re.fullmatch(r"([1-9][0-9]{0,9})([smhdw])", text)
    if match is None:
        raise UsageError(f"--expires {text!r}: must be a number and s, m, h, d or w, such as 12h, 90d or 52w")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > MAX_SECONDS:
        raise UsageError(f"--expires {text}: at most 5 years (260w)")
    return seconds


def iso(moment: int | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def create_token(args: Namespace, environ: Mapping[str, str]) -> int:
    settings = configuration.load(environ)
    for option, value, pattern in (
        ("project", args.project, NAME),
        ("service", args.service, NAME),
        ("scope", args.scope, SCOPE),
    ):
        if not pattern.fullmatch(value):
            raise UsageError(
                f"--{option} {value!r}: letters, digits and . _ - (at most 63), first a letter or digit"
            )
    if len(args.description) > 200 or not args.description.isprintable():
        raise UsageError("--description: at most 200 printable characters in one line")
    if len(args.scope) > 1000:
        raise UsageError("--scope: at most 1000 characters")
    claims = grant(Kind.TOKEN, args.project, args.service, args.scope, parse_duration(args.expires))
    token = mint(settings, claims)
    async with _store(environ) as store:
        await store.add(claims, args.description)
    expires = iso(claims.expires_at)
    if args.json:
        _print_json(
            {
                "token": token,
                "jti": claims.jti,
                "expires_at": expires,
                "subject": claims.subject,
                "scope": claims.scope,
            }
        )
    else:
        print(
            f"{claims.subject}: token {claims.jti}, scope {claims.scope!r}, expires {expires}: shown once",
            file=sys.stderr,
        )
        print(token)
    return 0


async def list_tokens(args: Namespace, environ: Mapping[str, str]) -> int:
    now = time.time()
    async with _store(environ) as store:
        records = await store.records()
    if not args.all:
        records = [
            record for record in records if record.kind == Kind.TOKEN and record.state(now) == "active"
        ]
    if args.json:
        _print_json([_as_json(record, now) for record in records])
    elif records:
        _print_table(records, now)
    else:
        print(
            "no tokens"
            if args.all
            else "no active tokens (--all shows expired and revoked ones, and sessions)",
            file=sys.stderr,
        )
    return 0


async def revoke_token(args: Namespace, environ: Mapping[str, str]) -> int:
    prefix = args.jti.lower()
    if not re.fullmatch(r"[0-9a-f]{8,32}", prefix):
        raise UsageError("ID: must be a token id as list-tokens shows it, or at least its first 8 characters")
    async with _store(environ) as store:
        found = await store.records(prefix)
        if not found:
            raise UsageError(f"{prefix}: no such token")
        if len(found) > 1:
            raise UsageError(
                f"{prefix}: means {len(found)} tokens: {', '.join(record.jti for record in found)}"
            )
        revoked = await store.revoke(found[0].jti, int(time.time()))
        [record] = await store.records(found[0].jti)
    word = "revoked" if revoked else "was already revoked"
    if args.json:
        _print_json(
            {
                "jti": record.jti,
                "subject": record.subject,
                "revoked": True,
                "already": not revoked,
                "revoked_at": iso(record.revoked_at),
            }
        )
    print(f"{record.subject}: token {record.jti} {word} at {iso(record.revoked_at)}", file=sys.stderr)
    return 0


async def login_url(args: Namespace, environ: Mapping[str, str]) -> int:
    public_url = configuration.public_url(environ)
    if not SCOPE.fullmatch(args.scope) or len(args.scope) > 1000:
        raise UsageError(
            f"--scope {args.scope!r}: must be words of letters, digits and . _ - :, separated by one space"
        )
    code, now = secrets.token_urlsafe(32), int(time.time())
    seconds = configuration.LOGIN_CODE_SECONDS
    async with _store(environ) as store:
        await store.add_login_code(hash_code(code), args.scope, now, seconds)
    url = f"{public_url}/auth/login?code={code}"
    if args.json:
        _print_json({"url": url, "expires_at": iso(now + seconds)})
    else:
        print(f"works once, until {iso(now + seconds)}:", file=sys.stderr)
        print(url)
    return 0


@asynccontextmanager
async def _store(environ: Mapping[str, str]) -> AsyncIterator[Store]:
    store = Store(parse(configuration.database_url(environ)))
    try:
        await store.prepare()
        yield store
    finally:
        await store.close()


def _as_json(record: Record, now: float) -> dict[str, Any]:
    times = {
        name: iso(getattr(record, name)) for name in ("issued_at", "expires_at", "revoked_at", "last_used_at")
    }
    return {**asdict(record), **times, "state": record.state(now)}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_table(records: list[Record], now: float) -> None:
    rows = [("ID", "STATE", "SUBJECT", "SCOPE", "ISSUED", "EXPIRES", "LAST USED", "DESCRIPTION")]
    for record in records:
        times = (
            iso(record.issued_at) or "",
            iso(record.expires_at) or "",
            iso(record.last_used_at) or "never",
        )
        rows.append(
            (record.jti[:12], record.state(now), record.subject, record.scope, *times, record.description)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
