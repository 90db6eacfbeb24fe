"""SIGTERM under load, through the real Traefik: no request may fail."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from .conftest import Platform, free_port, runtime_python, wait_for

STATIC = """
entryPoints: {{web: {{address: "127.0.0.1:{port}"}}}}
providers: {{file: {{filename: "{dynamic}"}}}}
log: {{level: ERROR}}
"""
DYNAMIC = """
http:
  routers:
    prefect: {{rule: "PathPrefix(`/`)", service: prefect, middlewares: [hold]}}
  middlewares:
    hold: {{retry: {{attempts: 600, initialInterval: 100ms, timeout: 45s}}}}
  services:
    prefect: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{server}"}}]}}}}
"""


def start_traefik(platform: Platform) -> str:
    """Start Traefik with request holding in front of the server; return its URL."""
    binary = shutil.which("traefik", path=str(Path(runtime_python()).parent)) or shutil.which("traefik")
    assert binary, "the runtime holds a traefik binary"
    port = free_port()
    dynamic = platform.folder / "dynamic.yml"
    dynamic.write_text(DYNAMIC.format(server=platform.port))
    static = platform.folder / "traefik.yml"
    static.write_text(STATIC.format(port=port, dynamic=dynamic))
    platform.run("traefik", [binary, f"--configfile={static}"])
    url = f"http://127.0.0.1:{port}/api"
    wait_for(lambda: httpx.get(f"{url}/health", verify=False).status_code == 200, "Traefik's route")
    return url


class SteadyLoad:
    """Clients that mix GET and POST over keep-alive connections until told to stop."""

    def __init__(self, url: str, clients: int) -> None:
        self.url = url
        self.clients = clients
        self.answers: Counter[str] = Counter()
        self.created: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failures(self) -> dict[str, int]:
        return {answer: count for answer, count in self.answers.items() if not answer.startswith("2")}

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))

    async def _client(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            count = 0
            while not self._stop.is_set():
                count += 1
                # Half of the clients pause: their upstream connections are idle when the stop comes.
                await asyncio.sleep(0.25 if number % 2 else 0.02)
                name = f"f-{number}-{count}"
                await self._ask(client, name if count % 3 == 0 else None)

    async def _ask(self, client: httpx.AsyncClient, name: str | None) -> None:
        try:
            if name is None:
                response = await client.get("/version")
            else:
                response = await client.post("/flows/", json={"name": name})
        except httpx.HTTPError as error:
            self.answers[repr(error)] += 1
            return
        self.answers[str(response.status_code)] += 1
        if name is not None and response.is_success:
            self.created.append(name)


def test_a_restart_under_load_fails_no_request(platform: Platform, template: Path) -> None:
    server = platform.server("--template", str(template))
    url = start_traefik(platform)
    with SteadyLoad(url, clients=12) as load:
        for _ in range(2):
            time.sleep(1.5)
            assert server.stop(30) == 0, server.output()
            server = platform.server()
        time.sleep(1)
    assert load.failures == {}
    assert sum(load.answers.values()) > 100
    stored = httpx.post(f"{platform.url}/flows/count", json={}).json()
    assert stored == len(load.created)


def test_an_idle_connection_is_answered_while_the_server_stops(platform: Platform, template: Path) -> None:
    server = platform.server("--template", str(template))
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/api/flows/", '{"name": "before"}', headers)
    assert connection.getresponse().read()
    server.signal(signal.SIGTERM)
    wait_for(lambda: refuses(platform.port), "the closed listener")
    connection.request("POST", "/api/flows/", '{"name": "after"}', headers)
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("connection")) == (201, "close")
    assert server.popen.wait(30) == 0


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_running_websocket_does_not_delay_the_stop_beyond_its_limit(
    platform: Platform, template: Path
) -> None:
    server = platform.server("--template", str(template), "--stop-seconds", "8")
    worker = platform.worker("connected")
    wait_for(lambda: "started" in worker.output(), "the worker")
    began = time.monotonic()
    assert server.stop(30) == 0
    # Generous against a slow machine, far below "waits for ever".
    assert time.monotonic() - began < 20
