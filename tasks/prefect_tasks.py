"""Prefect: checks, clients, database."""

from __future__ import annotations

import os
import shlex

from invoke.context import Context

from ._context import platform, say, show
from ._task import task


@task()
def smoke(c: Context, env: str = "local", json: bool = False) -> None:
    """Run the canary flow and check its records.

    Example: ./invoke prefect.smoke
    """
    from prefect_platform.checks import health
    from prefect_platform.environment import access
    from prefect_platform.errors import CheckFailed

    from ._output import checks

    p = platform(c, env)
    access.require_running(p)
    found = health.prove(p, canary_must_run=True)
    checks(found, json, {})
    if not all(check.ok for check in found):
        raise CheckFailed("the smoke test failed", "each FAIL line above names the next command")


@task()
def pools(c: Context, env: str = "local", json: bool = False) -> None:
    """Compare work pools and queues with settings.

    Example: ./invoke prefect.pools
    """
    from prefect_platform.environment import access
    from prefect_platform.environment import opened as environment
    from prefect_platform.provisioning.prefect.pools import pools_table

    p = platform(c, env)
    access.require_running(p)
    with access.api(p) as client:
        rows = pools_table(client, environment.desired(p))
    if json:
        return show([vars(row) for row in rows])
    keys = list(vars(rows[0])) if rows else []
    table = [keys, *[["-" if value is None else str(value) for value in vars(row).values()] for row in rows]]
    widths = [max(len(line[i]) for line in table) for i in range(len(keys))]
    for line in table:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    return None


@task(name="client-env", help={"token": "a token of gateway.create-token"})
def client_env(c: Context, token: str, env: str = "local") -> None:
    """Print shell lines that set up a Prefect client.

    Example: eval "$(./invoke prefect.client-env --token "$TOKEN")"
    """
    from prefect_platform.operations import connect as connection
    from prefect_platform.operations import tokens

    p = platform(c, env)
    tokens.require_token(token)
    print("unset PREFECT_API_KEY PREFECT_API_AUTH_STRING")
    for name, value in connection.variables(p, token).items():
        print(f"export {name}={shlex.quote(value)}")
    say("this output contains the token: do not log it")


@task(name="set-database-aside")
def set_database_aside(c: Context, env: str = "local", yes: bool = False) -> None:
    """Rename a damaged database.

    The next setup creates a new one.

    Example: ./invoke prefect.set-database-aside --yes
    """
    from prefect_platform.errors import ConfigError
    from prefect_platform.targets.protocol import SetsDatabaseAside, require

    p = platform(c, env)
    target = require(p.target, SetsDatabaseAside)
    if not yes:
        raise ConfigError("this would stop the server and set its database aside", "add --yes to do it")
    with p.target.lock("prefect.set-database-aside", 600):
        aside = target.set_database_aside(p.stacks[p.main])
    for file in aside:
        print(file)
    say("next: ./invoke prefect.setup starts with an empty database" if aside else "there is no database")


@task(help={"to": "folder (default backups/ in the state folder)"})
def backup(c: Context, env: str = "local", to: str = "") -> None:
    """Copy Prefect's database while it runs.

    Example: ./invoke prefect.backup --env production --to /mnt/backups

    Prints the file it wrote.
    """
    from prefect_platform.operations import backups

    print(backups.make(platform(c, env), to))


@task(
    help={
        "file": "what prefect.backup wrote",
    }
)
def restore(c: Context, file: str, env: str = "local", yes: bool = False) -> None:
    """Restore a backup; the old database is kept.

    Example: ./invoke prefect.restore --yes \\
      --file .state/local/backups/prefect-20261125T120000Z.db
    """
    from prefect_platform.checks import health
    from prefect_platform.environment import access
    from prefect_platform.errors import CheckFailed
    from prefect_platform.operations import backups

    from ._output import checks

    p = platform(c, env)
    kept = backups.bring_back(p, file, yes)
    say(f"restored; previous database: {kept or 'nothing'}")
    if not access.runs(p):
        return say(f"environment {env!r} is not running; next: ./invoke prefect.setup")
    found = health.prove(p)
    checks(found, False, {})
    if not all(check.ok for check in found):
        raise CheckFailed("restored, but not healthy", "each FAIL line above names the next command")
    return None


@task(
    name="migrate-to-postgres",
)
def migrate_to_postgres(
    c: Context, env: str = "local", yes: bool = False, wait: int = 600, json: bool = False
) -> None:
    """Move the SQLite data to prefect.database_url.

    Example: ./invoke prefect.migrate-to-postgres --env fly --yes
    """
    from prefect_platform.errors import CheckFailed, ConfigError
    from prefect_platform.operations import move_to_postgres

    from ._output import checks

    p = platform(c, env)
    if not yes:
        raise ConfigError(
            "this would stop the server while it copies; Prefect then runs on PostgreSQL",
            "add --yes to do it; the SQLite file stays as it is",
        )
    moved = move_to_postgres.to_postgres(
        p, lambda: platform(c, env, {"prefect": {"database_url": None}}), wait
    )
    total = sum(moved.rows.values())
    if json:
        show({"place": moved.place, "seconds": moved.seconds, "rows": moved.rows, "total": total})
    else:
        for name, rows in sorted(moved.rows.items()):
            print(f"{name:32} {rows:>12}")
        print(f"{'rows moved, counted at both ends':32} {total:>12}")
        checks(moved.report.checks, False, {})
    say(f"moved to {moved.place} in {moved.seconds} s; the SQLite file is kept but no longer used")
    if not moved.report.healthy:
        raise CheckFailed("moved, but not healthy", "./invoke prefect.status")


@task(help={"github": "OWNER/REPO: set the secrets of this repository, not your profile"})
def connect(c: Context, env: str = "local", github: str = "") -> None:
    """Point your Prefect commands and flows here.

    Example: ./invoke prefect.connect --env production

    Creates a token for this profile.
    """
    from prefect_platform.operations import connect as connection

    p = platform(c, env)
    if github:
        return say(connection.connect_github(p, github))
    say(connection.connect(p))
    overriding = sorted(name for name in os.environ if name in connection.variables(p, ""))
    if overriding:
        say(f"note: {', '.join(overriding)} of this shell's environment overrides the profile: unset it")
    return None


@task(help={"github": "OWNER/REPO: delete the secrets of this repository, not your profile"})
def disconnect(c: Context, env: str = "local", github: str = "") -> None:
    """Undo prefect.connect and revoke its token.

    Example: ./invoke prefect.disconnect --env production
    """
    from prefect_platform.operations import connect as connection

    p = platform(c, env)
    say(connection.disconnect_github(p, github) if github else connection.disconnect(p))
