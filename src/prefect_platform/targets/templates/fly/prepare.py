"""Runs once, while the image is built: whatever a start would have to do first is done here, and what would fail there fails here."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLATFORM = HERE.parent
TEMPLATE, UI = PLATFORM / "prefect-template.db", PLATFORM / "ui"
_UI = "from prefect.server.api.server import create_ui_app; create_ui_app(False)"
_GATEWAY = "import prefect_platform.gateway.app, prefect_platform.gateway.serve, prefect_platform.gateway.cli, aiosqlite"
_SERVER = "import prefect.server.api.server, server_database, server_http, sqlite_writes, uvicorn, aiosqlite"


def main() -> None:
    with Path("/etc/passwd").open("a") as file:
        file.write("platform:x:1001:1001::/data/home:/usr/sbin/nologin\n")
    server = PLATFORM / "prefect"
    # The official image is installed without byte code; without it a start takes three times as long.
    folders = [sysconfig.get_paths()["purelib"], str(PLATFORM)]
    _run(["-m", "compileall", "-q", "-j", "0", *folders], PLATFORM)
    _run([str(server / "server.py"), "make-template", str(TEMPLATE)], server)
    UI.mkdir()
    with tempfile.TemporaryDirectory() as home:
        lines = (server / "settings.env").read_text().splitlines()
        ui = dict(line.split("=", 1) for line in lines if line.startswith("PREFECT_SERVER_UI_"))
        _run(["-c", _UI], server, **ui, PREFECT_HOME=home)
        _run(["-c", _SERVER], server, PREFECT_HOME=home)
        _run(["-c", _GATEWAY], PLATFORM / "gateway")
    _run(["-c", "import supervisor.supervisord, supervisor.xmlrpc"], HERE)
    subprocess.run(["traefik", "version"], check=True)
    subprocess.run(["setpriv", "--version"], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(PLATFORM)], check=True)
    if not list(UI.rglob("index.html")):
        sys.exit(f"{UI}: Prefect put no UI there")


def _run(words: list[str], folder: Path, **environ: str) -> None:
    subprocess.run([sys.executable, *words], cwd=folder, env={**os.environ, **environ}, check=True)


if __name__ == "__main__":
    main()
