"""Runs while the image is built, as packages, database and rest: the slow first steps of a start are done here, and fail here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLATFORM = HERE.parent
SERVER, TEMPLATE, UI = PLATFORM / "prefect", PLATFORM / "prefect-template.db", PLATFORM / "ui"
_UI = "from prefect.server.api.server import create_ui_app; create_ui_app(False)"
_GATEWAY = "import prefect_platform.gateway.app, prefect_platform.gateway.serve, prefect_platform.gateway.cli, aiosqlite"
_SERVER = "import prefect.server.api.server, server_answers, server_database, server_http, server_limits, server_move, server_postgres, server_replica, server_ui, sqlite_writes, uvicorn, aiosqlite"


def packages() -> None:
    """The official image is installed without byte code; without it a start takes three times as long."""
    with Path("/etc/passwd").open("a") as file:
        file.write("platform:x:1001:1001::/data/home:/usr/sbin/nologin\n")
    _run(["-m", "compileall", "-q", "-j", "0", sysconfig.get_paths()["purelib"]], PLATFORM)
    subprocess.run(["traefik", "version"], check=True)
    subprocess.run(["setpriv", "--version"], check=True)
    if shutil.which("litestream"):
        subprocess.run(["litestream", "version"], check=True)


def database() -> None:
    """Empty and migrated, for a volume that is new."""
    _run([str(SERVER / "server.py"), "make-template", str(TEMPLATE)], SERVER)


def rest() -> None:
    """The stacks' own files: compiled, imported once, and Prefect's UI with its settings."""
    _run(["-m", "compileall", "-q", str(PLATFORM)], PLATFORM)
    UI.mkdir()
    with tempfile.TemporaryDirectory() as home:
        lines = (SERVER / "settings.env").read_text().splitlines()
        ui = dict(line.split("=", 1) for line in lines if line.startswith("PREFECT_SERVER_UI_"))
        _run(["-c", _UI], SERVER, **ui, PREFECT_HOME=home)
        _run(["-c", _SERVER], SERVER, PREFECT_HOME=home)
        if (PLATFORM / "gateway").exists():
            _run(["-c", _GATEWAY], PLATFORM / "gateway")
    _run(["-c", "import supervisor.supervisord, supervisor.xmlrpc"], HERE)
    subprocess.run(["chmod", "-R", "a+rX", str(PLATFORM)], check=True)
    if not list(UI.rglob("index.html")):
        sys.exit(f"{UI}: Prefect put no UI there")


def _run(words: list[str], folder: Path, **environ: str) -> None:
    subprocess.run([sys.executable, *words], cwd=folder, env={**os.environ, **environ}, check=True)


if __name__ == "__main__":
    {"packages": packages, "database": database, "rest": rest}[sys.argv[1]]()
