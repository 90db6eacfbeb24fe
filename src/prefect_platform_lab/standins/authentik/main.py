"""The `ak` of the stand-in's image: server, worker, healthcheck. Its environment is the real one's (AUTHENTIK_…)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.request
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from . import state
from .api import Api
from .pages import CALLBACK, END, LOGIN, PRIVATE_RANGES, Pages
from .store import Postgres, Store

WORKER_MARK = Path("/dev/shm/authentik-worker")


def create_app(store: Store, trusted: str = PRIVATE_RANGES) -> Starlette:
    """API and data plane on one port, as the real server has them; `app.state.api` is the Api."""
    api, pages = Api(store), Pages(store, trusted)
    every = ["GET", "POST", "PATCH", "PUT", "DELETE"]
    routes = [
        Route("/api/v3/{path:path}", api.__call__, methods=every),
        Route("/outpost.goauthentik.io/auth/traefik", pages.auth),
        Route(CALLBACK, pages.callback),
        Route("/outpost.goauthentik.io/sign_out", pages.sign_out),
        Route("/outpost.goauthentik.io/ping", pages.ping),
        Route("/application/o/authorize/", pages.authorize),
        Route(LOGIN, pages.login, methods=["GET", "POST"]),
        Route("/if/session-end/", pages.session_end),
        Route(END, pages.end),
        Route("/-/health/ready/", pages.ready),
        Route("/-/health/live/", pages.ping),
        Route("/-/standin", pages.control, methods=["POST"]),
        Route("/-/standin", pages.echo),
    ]
    app = Starlette(routes=routes)
    app.state.api = api
    return app


def _store() -> Store:
    environ = os.environ
    if not environ["AUTHENTIK_SECRET_KEY"]:
        sys.exit("AUTHENTIK_SECRET_KEY: is empty")
    place = {name: environ[f"AUTHENTIK_POSTGRESQL__{name.upper()}"] for name in ("host", "user", "password")}
    return Postgres(**place, database=environ["AUTHENTIK_POSTGRESQL__NAME"])


def serve() -> None:
    trusted = os.environ.get("AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS", PRIVATE_RANGES)
    host, _, port = os.environ.get("AUTHENTIK_LISTEN__HTTP", "[::]:9000").rpartition(":")
    app = create_app(_store(), trusted)
    uvicorn.run(
        app, host=host.strip("[]"), port=int(port), proxy_headers=False, log_level="warning", access_log=False
    )


async def work() -> None:
    """The first start makes what the real worker's blueprints make; then it waits."""
    token = os.environ.get("AUTHENTIK_BOOTSTRAP_TOKEN", "")
    async with _store().open() as now:
        state.bootstrap(now, token, os.environ.get("AUTHENTIK_BOOTSTRAP_PASSWORD", ""))
    WORKER_MARK.touch()
    ended = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)
    await ended.wait()


def healthy() -> bool:
    if WORKER_MARK.exists():
        return True
    with urllib.request.urlopen("http://127.0.0.1:9000/-/health/ready/", timeout=4) as answer:
        return bool(answer.status == 200)


def main() -> None:
    match sys.argv[1:]:
        case ["server"]:
            serve()
        case ["worker"]:
            asyncio.run(work())
        case ["healthcheck"]:
            sys.exit(0 if healthy() else 1)
        case words:
            sys.exit(f"ak, lab stand-in: server, worker or healthcheck, not {words}")


if __name__ == "__main__":
    main()
