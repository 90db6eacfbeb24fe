"""A stack's role and database in the shared Postgres: created once, its password kept in step with the secret; dumps and restores.

SQL goes in by standard input.
"""

from __future__ import annotations

from prefect_platform.config.stack import DatabaseSpec, Stack
from prefect_platform.errors import ApplyError, PreflightError
from prefect_platform.secretstore.store import SecretStore
from prefect_platform.targets.protocol import Say

from .host import Host

ADMIN = "postgres"
"""PostgreSQL's superuser, and the database that is always there."""
_PSQL = ("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", ADMIN, "-d")
_KEPT_DUMPS = 5
_DUMP = """
umask 077; mkdir -p "$1" && docker exec "$2" pg_dump -Fc -U postgres "$3" >"$1/.part" && sync && mv "$1/.part" "$1/$3-$4.dump" || exit
cd "$1" && ls -1t | grep -E "^$3-[0-9].*[.]dump$" | tail -n "+$(($5 + 1))" | xargs -r rm -f --
"""
_DUMPS = 'cd "$1" 2>/dev/null || exit 0; ls -1t | grep -E "^$2-[0-9].*[.]dump$" || true'
_LOAD = 'docker exec -i "$2" pg_restore -U postgres --exit-on-error -d "$3" <"$1"'


def missing(host: Host, container: str, stack: Stack) -> list[str]:
    """`role NAME` and `database NAME` of the stack that do not exist; all of them while PostgreSQL does not run."""
    wanted = [f"{kind} {each.name}" for each in stack.databases for kind in ("role", "database")]
    if not wanted:
        return []
    sql = "SELECT 'role ' || rolname FROM pg_roles UNION ALL SELECT 'database ' || datname FROM pg_database"
    found = host.docker("exec", container, *_PSQL, ADMIN, "-At", "-c", sql, check=False).text
    return [name for name in wanted if name not in found.splitlines()]


def ensure(host: Host, container: str, stack: Stack, store: SecretStore) -> None:
    """Create what is missing and set the role's password to the secret. Raises PreflightError without Postgres."""
    if host.engine.container(container) is None:
        raise PreflightError(
            f"{stack.name}: needs Postgres, but container {container} does not exist",
            "./invoke postgres.setup",
        )
    secrets = store.read(stack.name)
    for database in stack.databases:
        _run(host, container, ADMIN, _role(database, secrets[database.password].value))
        _run(host, container, database.name, _inside(database))


def drop(host: Host, container: str, stack: Stack) -> None:
    """Delete the stack's databases and roles, irrevocably."""
    for each in stack.databases:
        sql = f"DROP DATABASE IF EXISTS {each.name} WITH (FORCE);\nDROP OWNED BY {each.name};\nDROP ROLE {each.name};\n"
        _run(host, container, ADMIN, sql)


def dump(host: Host, container: str, folder: str, stack: Stack, label: str, say: Say) -> None:
    """Write the stack's databases to `folder`, as <database>-<label>.dump; the newest five of each are kept."""
    for database in stack.databases:
        say(f"dumping database {database.name}")
        host.sh(_DUMP, folder, container, database.name, label, str(_KEPT_DUMPS), seconds=3600)


def dump_names(stack: Stack, label: str) -> list[str]:
    """The files that `dump` writes."""
    return [f"{database.name}-{label}.dump" for database in stack.databases]


def outdated_dumps(host: Host, folder: str, stack: Stack, label: str) -> list[str]:
    """The files that `dump` deletes, for the newest five of each database to be left."""
    found = []
    for database, new in zip(stack.databases, dump_names(stack, label), strict=True):
        listed = host.sh(_DUMPS, folder, database.name).text.split()
        found += [name for name in listed if name != new][_KEPT_DUMPS - 1 :]
    return found


def dumped(host: Host, folder: str, stack: Stack, label: str) -> bool:
    """Whether there is a dump with this label of each database of the stack."""
    files = [_file(folder, database, label) for database in stack.databases]
    return all(host.sh('[ -s "$1" ]', file, check=False).code == 0 for file in files)


def restore(host: Host, container: str, folder: str, stack: Stack, label: str, say: Say) -> None:
    """Replace the databases by those of a dump. Each is loaded beside the old one and takes its name at the end. Raises ApplyError."""
    for database in stack.databases:
        say(f"restoring database {database.name}")
        name, beside = database.name, f"{database.name}_restored"
        _run(host, container, ADMIN, f"DROP DATABASE IF EXISTS {beside};\n{_create(beside, name)}")
        _run(host, container, beside, _inside(database))
        done = host.sh(_LOAD, _file(folder, database, label), container, beside, check=False, seconds=3600)
        if done.code:
            raise ApplyError(
                f"{container}: database {name}: the dump cannot be restored: {done.stderr.strip()[-500:]}",
                "the database is as it was",
            )
        _run(host, container, ADMIN, _take_place(name, beside))


def _file(folder: str, database: DatabaseSpec, label: str) -> str:
    return f"{folder}/{database.name}-{label}.dump"


def _create(database: str, owner: str) -> str:
    return f"CREATE DATABASE {database} OWNER {owner};\nREVOKE ALL ON DATABASE {database} FROM PUBLIC;\n"


def _take_place(name: str, beside: str) -> str:
    return f"""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}';
BEGIN;
ALTER DATABASE {name} RENAME TO {name}_replaced;
ALTER DATABASE {beside} RENAME TO {name};
COMMIT;
DROP DATABASE {name}_replaced;
"""


def _run(host: Host, container: str, database: str, sql: str) -> None:
    done = host.docker("exec", "-i", container, *_PSQL, database, stdin=sql.encode(), check=False)
    if done.code:
        raise ApplyError(
            f"{container}: database {database}: {done.stderr.strip()[-500:]}", "run the command again"
        )


def _role(database: DatabaseSpec, password: str) -> str:
    """Least privilege: the role owns its database and may do nothing else; no other role may even connect to it.

    Statement logging is off while the password is in a statement.
    """
    name = database.name
    return f"""
SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';
SELECT 'CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION'
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')
\\gexec
ALTER ROLE {name} PASSWORD {_literal(password)};
-- When the secret changes, the role sets its new password itself (vault/database_password.py), as unlogged as here.
GRANT SET ON PARAMETER log_min_duration_statement, log_min_error_statement TO {name};
SELECT 'CREATE DATABASE {name} OWNER {name}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')
\\gexec
REVOKE ALL ON DATABASE {name} FROM PUBLIC;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
"""


def _inside(database: DatabaseSpec) -> str:
    extensions = "".join(f"CREATE EXTENSION IF NOT EXISTS {name};\n" for name in database.extensions)
    return f"{extensions}REVOKE CREATE ON SCHEMA public FROM PUBLIC;\nGRANT ALL ON SCHEMA public TO {database.name};\n"


def _literal(text: str) -> str:
    """An SQL string for any text; E'' makes it independent of standard_conforming_strings."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
