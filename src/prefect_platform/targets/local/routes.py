"""Traefik's dynamic files, tried before they are moved into place: one bad file freezes all of Traefik's updates (it has no --check)."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_platform.errors import ApplyError

_STATIC = """
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
api: {{insecure: false}}
ping: {{manualRouting: true}}
metrics: {{prometheus: {{manualRouting: true}}}}
providers: {{file: {{directory: "{folder}", watch: false}}}}
entryPoints:
  try: {{address: "127.0.0.1:{port}", http: {{aliasHeadersStrategy: delete}}}}
  {others}
"""
_VIEW = 'http: {routers: {platform-try: {entryPoints: [try], rule: "PathPrefix(`/api`)", service: api@internal}}}\n'


def check(traefik: Path, routes: Mapping[str, bytes], scratch: Path, seconds: float = 15) -> None:
    """Load the files in a throw-away Traefik on loopback. Raises ApplyError with what it says of them."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="routes-") as name:
        folder = Path(name) / "dynamic"
        folder.mkdir()
        for path, content in routes.items():
            (folder / Path(path).name).write_bytes(content)
        (folder / "zz-try.yml").write_text(_VIEW)
        ports = [_free_port() for _ in range(4)]
        others = "\n  ".join(
            f'{entry}: {{address: "127.0.0.1:{port}"}}'
            for entry, port in zip(("web", "auth", "ops"), ports, strict=False)
        )
        static = Path(name) / "traefik.yml"
        static.write_text(_STATIC.format(folder=folder, port=ports[3], others=others))
        _try(traefik, static, ports[3], seconds)


def _try(traefik: Path, static: Path, port: int, seconds: float) -> None:
    with subprocess.Popen(
        [traefik, f"--configFile={static}"],
        env={},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            routers = _routers(process, port, seconds)
        finally:
            process.kill()
            said = process.stdout.read() if process.stdout else ""
    problems = [
        f"{router['name']}: {'; '.join(router.get('error', [router['status']]))}"
        for router in routers or []
        if router["status"] != "enabled"
    ]
    if routers is None or problems:
        reason = "; ".join(problems) or said.strip()[-600:] or "they were not loaded"
        raise ApplyError(
            f"Traefik refuses the routes: {reason}",
            "correct platform.gateway.routes; the running routes were not touched",
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
