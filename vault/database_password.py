"""Gives a database role the password that its secret has now: database_password.py SECRET HOST ROLE [DATABASE]

Run by entrypoint.sh when the file of secrets has changed, before the process that uses them is started anew: the environment holds
the new values, standard input the old file. A role may change its own password; so nobody needs more rights than they have, and
whoever comes first of several containers does it, the others find it done. Exit 0 when the new password works, else 1.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys

import asyncpg

TIMEOUT_SECONDS = 20


def former(text: str, secret: str) -> str:
    """A secret's value in a file of shell-quoted KEY='value' lines; empty when it is not there."""
    pairs = (word.partition("=") for word in shlex.split(text))
    return next((value for name, _, value in pairs if name == secret), "")


def literal(text: str) -> str:
    """An SQL string for any text."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


async def change(host: str, role: str, database: str, new: str, old: str) -> str:
    """Make the new password work; returns what was done. Raises asyncpg's and the system's errors."""
    place = {"host": host, "user": role, "database": database, "timeout": TIMEOUT_SECONDS}
    try:
        connection = await asyncpg.connect(**place, password=new)
    except asyncpg.InvalidPasswordError:
        connection = await asyncpg.connect(**place, password=old)
        try:
            # A statement that is logged, because it failed or took long, would show the password.
            await connection.execute(
                "SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'"
            )
            await connection.execute(f"ALTER ROLE CURRENT_USER PASSWORD {literal(new)}")
        finally:
            await connection.close()
        return f"role {role}: the new password is set"
    await connection.close()
    return f"role {role}: the new password works already"


def main() -> int:
    secret, host, role, *rest = sys.argv[1:]
    new, old = os.environ.get(secret, ""), former(sys.stdin.read(), secret)
    if not new:
        print(f"{secret} is empty now: the role {role} keeps its password", file=sys.stderr)
        return 1
    if new == old:
        return 0
    try:
        print(asyncio.run(change(host, role, rest[0] if rest else role, new, old)), file=sys.stderr)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"role {role}: {type(error).__name__}: {error}; trying again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
