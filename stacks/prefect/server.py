"""Start a Prefect server: API, UI and background services in one process on SQLite, or the first two on Postgres.

    server.py [--host H] [--port N] [--template FILE]   serve, like `prefect server start`; --no-services: API and UI only
    server.py check-database [FILE] [--full]            exit 0, or 3 with one line saying what is wrong
    server.py make-template FILE                        write a migrated, empty SQLite database
    server.py backup FILE                               write a consistent copy of the SQLite database, in use or not
    server.py restore FILE                              make a copy of FILE the database; the server must be stopped

All `PREFECT_*` settings come from the environment. What differs from `prefect server start`: faster imports,
SQLite write transactions that wait instead of failing (`sqlite_writes`), WebSockets that do not count as requests
(`server_limits`), a new database copied from a template and a damaged one refused (`server_database`), a stop
without failed requests (`server_http`), deferred task runs that a restart does not lose (`server_deferred`), and
pages that tell a person whose session has ended (`server_answers`). On a Prefect version that has not been tested the
stock command is started instead, with a warning.
"""

from __future__ import annotations

import gc

gc.disable()  # Collections during the imports find nothing and cost a fifth of them. On again once serving.

import argparse  # noqa: E402
import asyncio  # noqa: E402
import errno  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

EXIT_USAGE = 1
EXIT_DATABASE = 3
KEEP_ALIVE_SECONDS = 180
"""Longer than a proxy's idle timeout (Traefik 90 s): the side that writes requests has to close first."""


def main(argv: list[str]) -> int:
    """Run one command; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until uvicorn takes over
    command = argv[0] if argv else ""
    if command == "check-database":
        return check_database(argv[1:])
    if command == "make-template":
        return make_template(argv[1:])
    if command in ("backup", "restore"):
        import server_backup

        return server_backup.run(command, argv[1:])
    return serve(argv)


def check_database(argv: list[str]) -> int:
    """Print the state of the configured (or given) database; 0 when it can be used, 3 when not."""
    from server_database import check, configured_path

    parser = argparse.ArgumentParser(prog="server.py check-database")
    parser.add_argument("file", type=Path, nargs="?", help="default: the database of the PREFECT_* settings")
    parser.add_argument("--full", action="store_true", help="read every page, whatever the size")
    args = parser.parse_args(argv)
    path = args.file or configured_path()
    if path is None:
        print("the database is not a SQLite file")
        return 0
    state = check(path, full=args.full)
    print(state.line(), file=sys.stderr if state.problem else sys.stdout)
    return EXIT_DATABASE if state.problem else 0


def make_template(argv: list[str]) -> int:
    """Write a migrated SQLite database with the block types registered, atomically."""
    parser = argparse.ArgumentParser(prog="server.py make-template")
    parser.add_argument("file", type=Path)
    target: Path = parser.parse_args(argv).file.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    # The settings of a running installation must not steer (or be written into) the template.
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix=".template-", dir=target.parent) as home:
        os.environ["PREFECT_HOME"] = home
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{home}/prefect.db"
        from server_database import fill_template

        asyncio.run(fill_template(target))
    print(target)
    return 0


def serve(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT."""
    args = _serve_parser().parse_args(argv)
    if not args.no_services:
        # Postgres of the split topology has no need of it, and its containers do not get the file.
        import server_replica

        if server_replica.wanted():
            if wrong := server_replica.restore():
                return _fail(f"database: {wrong}", EXIT_DATABASE)
            server_replica.become(sys.argv)
        server_replica.end_with_parent()
    began = time.monotonic()
    if args.no_services:
        import server_settings

        server_settings.apply(os.environ)
    from server_http import bind

    try:
        listener = bind(args.host, args.port)
    except OSError as error:
        return _fail(f"cannot listen on {args.host}:{args.port}: {error.strerror or error}")
    from server_database import check, configured_path

    path = configured_path()
    if path is None and not args.no_services:
        import server_postgres

        if wrong := server_postgres.problem() or _move():
            return _fail(f"database {wrong}", EXIT_DATABASE)
    if path is not None:
        state = check(path)
        if state.problem:
            return _fail(f"database {state.line()}", EXIT_DATABASE)
        if not state.exists and (wrong := _new_database(path, args.template)):
            return _fail(f"database {path}: cannot be made: {wrong}", EXIT_DATABASE)
    _prepare_prefect(args, sqlite=path is not None)
    return _run(args, listener, began)


def _serve_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="server.py", description="Run the combined Prefect server.")
    parser.add_argument("--host", default=os.environ.get("PREFECT_SERVER_API_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PREFECT_SERVER_API_PORT", "4200")))
    parser.add_argument(
        "--template", type=Path, help="copied when the configured SQLite file does not exist yet"
    )
    parser.add_argument(
        "--no-services", action="store_true", help="API and UI only; the services run elsewhere"
    )
    parser.add_argument(
        "--deferred-after",
        type=float,
        default=None,
        help="seconds until deferred task runs of before this start are put back; negative: another server does it",
    )
    parser.add_argument("--stop-seconds", type=float, default=25.0, help="upper limit of a stop")
    parser.add_argument("--loop", default="auto", choices=["auto", "asyncio", "uvloop"])
    parser.add_argument("--http", default="auto", choices=["auto", "h11", "httptools"])
    return parser


def _move() -> str | None:
    """Do what prefect.migrate-to-postgres asked for; returns what is wrong."""
    import server_move

    request = server_move.requested()
    if request is None:
        return None
    gc.enable()
    return server_move.fulfil(request)


def _new_database(path: Path, template: Path | None) -> str:
    """Returns why there can be none, or an empty string."""
    from server_database import forget_block_types, install_template

    forget_block_types()
    if template is None:
        return ""
    try:
        complete = install_template(template, path)
    except FileExistsError:
        return ""
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            # Going on, SQLite would leave an empty file, which the next start takes for a damaged database.
            return str(error.strerror)
        _say(f"no template ({template}: {error.strerror}); the first start migrates instead and takes longer")
        return ""
    if complete:
        # For this start only; Prefect then notes the registration in its memo store and skips it from now on.
        os.environ["PREFECT_SERVER_REGISTER_BLOCKS_ON_START"] = "false"
        _reload_settings()
    return ""


def _reload_settings() -> None:
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _prepare_prefect(args: argparse.Namespace, *, sqlite: bool) -> None:
    """Patch a Prefect that is known; replace this process by the stock command for any other."""
    import server_limits
    import server_ui
    import sqlite_writes

    server_limits.raise_file_limit()
    server_ui.make_replaceable(os.environ.get("PREFECT_SERVER_UI_STATIC_DIRECTORY", ""))
    reason = sqlite_writes.unsupported_reason()
    _publish(args, reason, sqlite=sqlite)
    if reason is None:
        if sqlite:
            sqlite_writes.apply()
            server_limits.apply()
        return
    _say(f"{reason}: starting stock `prefect server start` (concurrent SQLite writers will get 503)")
    # Below WARNING, its access log holds the requests' queries.
    stock = ["-m", "prefect", "server", "start", "--log-level", "WARNING"]
    command = [sys.executable, *stock, "--host", args.host, "--port", str(args.port)]
    command += ["--no-services"] if args.no_services else []
    os.execv(sys.executable, command)


def _publish(args: argparse.Namespace, reason: str | None, *, sqlite: bool) -> None:
    import launched
    import prefect

    special = ["SQLite's write queue"] if sqlite else ["password masking"] if args.no_services else []
    launched.publish(prefect.__version__, [*special, "graceful stop", "notice at a session's end"], reason)


def _run(args: argparse.Namespace, listener: Any, began: float) -> int:
    import server_deferred
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings
    from server_answers import with_notice, without_passwords
    from server_http import ConnectionCloser, GracefulServer, StopLimits, log_without_queries

    settings = get_current_settings().server
    if not args.no_services:
        import reconcile

        host = "127.0.0.1" if args.host in ("0.0.0.0", "::") else args.host
        reconcile.register(f"http://{host}:{args.port}{settings.api.base_path or '/api'}")
    gc.freeze()  # create_app(final=True) collects; without this it walks every imported module
    app: Any = with_notice(create_app(final=True, webserver_only=args.no_services))
    if args.no_services:
        import server_settings

        app = without_passwords(app, server_settings.secrets_of(os.environ))
    closer = ConnectionCloser(app)
    limits = StopLimits(total=args.stop_seconds)
    config = uvicorn.Config(
        closer,
        host=args.host,
        port=args.port,
        loop=args.loop,
        http=args.http,
        workers=1,
        log_level=settings.logging_level.lower(),
        timeout_keep_alive=_keep_alive_seconds(),
        timeout_graceful_shutdown=limits.requests,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
    )

    log_without_queries()

    def started() -> None:
        gc.freeze()
        gc.enable()
        _say(f"serving on http://{args.host}:{args.port} after {time.monotonic() - began:.1f} s")
        server_deferred.begin(args.deferred_after)

    server = GracefulServer(config, closer, limits, started)
    server.run(sockets=[listener])
    _say("stopped" if server.started else "could not start, see the messages above")
    return 0 if server.started else EXIT_USAGE


def _keep_alive_seconds() -> int:
    configured = os.environ.get("PREFECT_SERVER_API_KEEPALIVE_TIMEOUT")
    return int(configured) if configured else KEEP_ALIVE_SECONDS


def _say(text: str) -> None:
    print(f"server.py: {text}", file=sys.stderr, flush=True)


def _fail(text: str, code: int = EXIT_USAGE) -> int:
    _say(text)
    return code


def _entry() -> NoReturn:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    _entry()
