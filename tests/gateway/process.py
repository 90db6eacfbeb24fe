"""A real gateway for a test: its environment, its command line and its server process."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

SOURCE = Path(__file__).resolve().parents[2] / "src"
START_SECONDS = 30.0
Headers = Sequence[tuple[str, str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Gateway:
    folder: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(default_factory=httpx.Client)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.env['GATEWAY_PORT']}"

    @property
    def database(self) -> Path:
        return self.folder / "gateway.db"

    @property
    def cookie_name(self) -> str:
        return f"platform_session_{urlsplit(self.env['GATEWAY_PUBLIC_URL']).port}"

    def cli(self, *arguments: str, check: bool = True, **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "prefect_platform.gateway", *arguments],
            env={**self.env, **changes},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def new_token(self, *options: str) -> str:
        done = self.cli("create-token", "--project", "example-app", "--service", "worker", *options)
        return done.stdout.strip()

    def start(self, wait_for: str = "ok") -> None:
        with (self.folder / "serve.log").open("ab") as log:
            command = [sys.executable, "-m", "prefect_platform.gateway", "serve"]
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            try:
                if self.get("/health").json()["status"] == wait_for:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the gateway did not start: {self.log()}")

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def get(self, path: str, headers: Headers = ()) -> httpx.Response:
        return self.client.get(f"{self.url}{path}", headers=list(headers))

    def verify(self, token: str, scope: str = "prefect") -> httpx.Response:
        return self.get(f"/verify/{scope}", [("Authorization", f"Bearer {token}")])

    def log_in(self, *options: str) -> str:
        """A new session: the value of its cookie."""
        response = self.get(self.login_path(*options))
        assert response.status_code == 303, response.text
        value = response.cookies[self.cookie_name]
        self.client.cookies.clear()
        assert isinstance(value, str)
        return value

    def log_out(self, cookie: str, *headers: tuple[str, str], path: str = "/auth/logout") -> httpx.Response:
        sent = [("Cookie", f"{self.cookie_name}={cookie}"), *headers]
        return self.client.post(f"{self.url}{path}", headers=sent)

    def login_path(self, *options: str) -> str:
        url = urlsplit(self.cli("login-url", *options).stdout.strip())
        return f"{url.path}?{url.query}"

    def browse(self, cookie: str, *headers: tuple[str, str], scope: str = "prefect") -> httpx.Response:
        sent = [("Cookie", f"other=1; {self.cookie_name}={cookie}"), *headers]
        return self.get(f"/verify/{scope}/browser", sent)

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Straight into the SQLite file, past our code."""
        connection = sqlite3.connect(self.database, timeout=10)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def status_within(self, seconds: float, token: str, wanted: int) -> int:
        """The status of a verification, asked until it is the wanted one or the time is up."""
        deadline = time.monotonic() + seconds
        while (status := self.verify(token).status_code) != wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        return status


def make_gateway(folder: Path, signing_keys: str, **changes: str) -> Gateway:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "GATEWAY_DATABASE_URL": f"sqlite:///{folder / 'gateway.db'}",
        "GATEWAY_SIGNING_KEYS": signing_keys,
        "GATEWAY_ISSUER": "https://gateway.test",
        "GATEWAY_AUDIENCE": "platform-test",
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8123",
        "GATEWAY_PORT": str(free_port()),
        **changes,
    }
    return Gateway(folder, env)
