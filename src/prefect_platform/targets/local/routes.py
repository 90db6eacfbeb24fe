"""Traefik's dynamic files, tried before they are moved into place: one bad file freezes all of Traefik's updates (it has no --check)."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefect_platform.errors import ApplyError

_STATIC = """
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
api: {{insecure: false}}
ping: {{manualRouting: true}}
metrics: {{prometheus: {{manualRouting: true}}}}
experimental: {{abortOnPluginFailure: true, localPlugins: {{admission: {{moduleName: admission}}}}}}
providers: {{file: {{directory: "{folder}", watch: false}}}}
entryPoints:
  try: {{address: "127.0.0.1:{port}", http: {{aliasHeadersStrategy: delete}}}}
  web: {{address: "127.0.0.1:0"}}
  auth: {{address: "127.0.0.1:0"}}
  ops: {{address: "127.0.0.1:0"}}
"""
_VIEW = 'http: {routers: {platform-try: {entryPoints: [try], rule: "PathPrefix(`/api`)", service: api@internal}}}\n'


_ATTEMPTS = 5
_TAKEN = "address already in use"
"""What Traefik says when another process took the port after we had found it free."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check(
    traefik: Path,
    routes: Mapping[str, bytes],
    plugins: Path,
    scratch: Path,
    seconds: float = 15,
    free_port: Callable[[], int] = _free_port,
) -> None:
    """Load the files in a throw-away Traefik on loopback. Raises ApplyError with what it says of them.

    `plugins` is the folder with `plugins-local`, which the routes use.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="routes-") as name:
        folder = Path(name) / "dynamic"
        folder.mkdir()
        for path, content in routes.items():
            (folder / Path(path).name).write_bytes(content)
        (folder / "zz-try.yml").write_text(_VIEW)
        static = Path(name) / "traefik.yml"
        for _ in range(_ATTEMPTS):
            port = free_port()
            static.write_text(_STATIC.format(folder=folder, port=port))
            reason = _try(traefik, static, plugins, port, seconds)
            if not reason:
                return
            if _TAKEN not in reason:
                raise ApplyError(
                    f"Traefik refuses the routes: {reason}",
                    "correct platform.gateway.routes; the running routes were not touched",
                )
        raise ApplyError(
            f"the routes could not be tried: {reason}",
            "run the command again; the running routes were not touched",
        )


def _try(traefik: Path, static: Path, plugins: Path, port: int, seconds: float) -> str:
    """Why Traefik does not take them; empty when it does."""
    with subprocess.Popen(
        [traefik, f"--configFile={static}"],
        env={},
        cwd=plugins,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            routers = _routers(process, port, seconds)
        finally:
            process.kill()
            said = process.stdout.read() if process.stdout else ""
    if routers is None:
        return said.strip()[-600:] or "they were not loaded"
    return "; ".join(
        f"{router['name']}: {'; '.join(router.get('error', [router['status']]))}"
        for router in routers
        if router["status"] != "enabled"
    )


def _routers(process: subprocess.Popen[str], port: int, seconds: float) -> list[dict[str, Any]] | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{port}/api/http/routers?per_page=1000", timeout=2
            ) as answer:
                return list(json.load(answer))
        except OSError:
            time.sleep(0.03)
    return None
