"""A stack's role and database in the shared Postgres, made once and kept in step with its secret. SQL goes in by standard input."""

from __future__ import annotations

from ..errors import ApplyError, PreflightError
from ..secretstore import SecretStore
from ..stack import DatabaseSpec, Stack
from ._host import Host

_PSQL = ("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d")


def ensure(host: Host, container: str, stack: Stack, store: SecretStore) -> None:
    """Create what is missing and set the role's password to what the secret says. Raises PreflightError without Postgres."""
    if host.docker("inspect", container, check=False).code:
        raise PreflightError(
            f"{stack.name}: needs Postgres, and {container} is not there", "./invoke postgres.setup"
        )
    secrets = store.read(stack.name)
    for database in stack.databases:
        _run(host, container, "postgres", _role(database, secrets[database.password].value))
        _run(host, container, database.name, _inside(database))


def _run(host: Host, container: str, database: str, sql: str) -> None:
    done = host.docker("exec", "-i", container, *_PSQL, database, stdin=sql.encode(), check=False)
    if done.code:
        raise ApplyError(
            f"{container}: database {database}: {done.stderr.strip()[-500:]}", "run the command again"
        )


def _role(database: DatabaseSpec, password: str) -> str:
    """Least privilege: the role owns its database and may do nothing else; nobody else may even connect to it.

    Statement logging is off while the password is in a statement.
    """
    name = database.name
    return f"""
SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';
SELECT 'CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION'
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')
\\gexec
ALTER ROLE {name} PASSWORD {_literal(password)};
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
