"""The verifier process: uvicorn on one loopback port, drained on SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import Any

import jwt  # noqa: F401 - tokens.py imports it on first use; here, no request should have to wait for that
import uvicorn

from prefect_platform.gateway.app import create_app
from prefect_platform.gateway.database import parse
from prefect_platform.gateway.errors import StoreUnavailable
from prefect_platform.gateway.settings import Settings
from prefect_platform.gateway.store import Store

DRAIN_SECONDS = 10
# Longer than Traefik keeps an idle connection (90 s), so that Traefik closes first: otherwise a request may
# be written into a connection that we are just closing.
KEEP_ALIVE_SECONDS = 120

log = logging.getLogger("gateway")


def serve(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT. Raises GatewayError before listening if the token database is broken."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for signum in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains, then raises the signal again: for a supervisor an orderly stop is exit 0, not death
        # by signal.
        signal.signal(signum, _exit_zero)
    asyncio.run(_probe(settings))
    server = uvicorn.Server(_uvicorn_config(settings))
    gc.collect()
    gc.freeze()  # what was imported stays: no collection ever needs to walk through it
    server.run()
    return 0 if server.started else 1


def _uvicorn_config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        ws="none",
        lifespan="on",
        # X-Forwarded-* describe the request that is judged; they must not change who is asking.
        proxy_headers=False,
        access_log=False,
        server_header=False,
        date_header=False,
        log_config=None,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


async def _probe(settings: Settings) -> None:
    """A broken store is an error now; an unreachable one is waited for, answering 503 until it is back."""
    store = Store(parse(settings.database_url))
    try:
        await store.prepare()
    except StoreUnavailable as error:
        log.warning("%s; waiting for it", error)
    finally:
        await store.close()


def _exit_zero(_signum: int, _frame: Any) -> None:
    raise SystemExit(0)
