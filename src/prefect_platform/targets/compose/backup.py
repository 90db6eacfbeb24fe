"""The main stack's database as a file on the operator's machine, and back: `pg_dump` and `pg_restore` in the host's Postgres."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

from prefect_platform.config.stack import Stack
from prefect_platform.errors import ApplyError, PlatformError, PreflightError
from prefect_platform.targets.docker import databases

from . import schema
from .apply import UP_SECONDS, run_once
from .on_host import Site

_MAGIC = b"PGDMP"
_UPLOADED = "uploaded"


def _database(stack: Stack) -> str:
    """The name of the stack's only database."""
    (only,) = stack.databases
    return only.name


def backup(site: Site, stack: Stack, folder: Path, label: str) -> Path:
    """A consistent dump, made while everything runs; returns the file. Raises ApplyError."""
    file = folder / f"{stack.name}-{label}.dump"
    site.host.receive(file, "exec", site.postgres, "pg_dump", "-Fc", "-U", databases.ADMIN, _database(stack))
    return file


def restore(site: Site, stack: Stack, file: Path) -> str:
    """The dump's contents in the place of what is there, of which a dump is kept on the host: returned.

    The stack is stopped meanwhile. Raises PreflightError for what is no dump, ApplyError when it cannot be used: then all is as it was.
    """
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise PreflightError(f"{file}: not a dump of PostgreSQL", "give a file that prefect.backup wrote")
    release = site.current(stack)
    if not release:
        raise PreflightError(
            f"{stack.name}: not set up in environment {site.env!r}", f"./invoke {stack.name}.setup"
        )
    before = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-before-restore"
    name = _database(stack)
    site.host.send(file, f"{site.dumps}/{name}-{_UPLOADED}.dump")
    site.compose(stack, release, "stop", seconds=1000)
    try:
        databases.dump(site.host, site.postgres, site.dumps, stack, before, site.say)
        databases.restore(site.host, site.postgres, site.dumps, stack, _UPLOADED, site.say)
        _migrate(site, stack, release, before)
    except PlatformError as error:
        raise _not_restored(site, stack, release, error) from None
    finally:
        with contextlib.suppress(PlatformError):
            site.host.sh('rm -f "$1"', f"{site.dumps}/{name}-{_UPLOADED}.dump")
    site.start(stack, release, UP_SECONDS)
    site.record("restore", stack, release, "good", file.name)
    return f"{site.host.runner.place}:{site.dumps}/{name}-{before}.dump"


def _not_restored(site: Site, stack: Stack, release: str, error: PlatformError) -> ApplyError:
    """The error of a restore, with whether the stack runs again."""
    try:
        site.start(stack, release, UP_SECONDS)
    except PlatformError as also:
        again = f"./invoke {stack.name}.setup --env {site.env} starts it"
        return ApplyError(
            f"{error.reason}\n{stack.name} is stopped: {also.reason[-600:]}",
            f"{also.hint}; then {again}" if also.hint else again,
        )
    return ApplyError(f"{error.reason}\n{stack.name} runs again", error.hint)


def _migrate(site: Site, stack: Stack, release: str, before: str) -> None:
    """Bring an older schema up to date. Puts the previous database back when that fails: this release may not know the dump's schema."""
    try:
        migrations = schema.run_once(site.compose_files(stack).get(release, b""))
        # Their secrets were in memory, and went when the agent was stopped with the rest.
        run_once(site, stack, release, migrations, agent=True)
    except PlatformError as error:
        said = f"{stack.name}: the dump was not migrated: {error.reason[-400:]}"
        site.say("putting the previous database back")
        try:
            databases.restore(site.host, site.postgres, site.dumps, stack, before, site.say)
        except PlatformError as also:
            raise ApplyError(
                f"{said}\nthe database is the dump's: {also.reason}",
                f"{also.hint}; the previous one is kept on the host: {site.dumps}/{_database(stack)}-{before}.dump",
            ) from None
        raise ApplyError(
            f"{said}\nthe previous database was put back",
            "see above why; a dump of a newer Prefect needs that version",
        ) from None
