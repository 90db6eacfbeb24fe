"""Benchmarks of the VPS target in the lab, as root: `./invoke bench --vps [-- --runs N] [-- --out FILE]`.

A setup with nothing to do beside `docker compose up` over the same ssh; what clients notice of updates, ours and Prefect's own Compose guide;
what each door adds to a request. In one lab, one run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prefect_platform_lab
from bench.latency import Connection, compare
from bench.report import Row, at_most, at_most_ratio, table, verdict
from prefect_platform_lab import LabHost
from tests.lab.vps import Vps, invoke
from tests.local import load
from tests.local.conftest import free_ports

RATE = 20
IMAGE, SECOND = "prefecthq/prefect:3.8.8-python3.12", "prefecthq/prefect:3.8.8-python3.12-second"
BEFORE = "c8b9677"
AFTER = 30
"""Seconds that the load goes on after an update is said to be done: `docker compose up -d` does not wait for anybody."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each timing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-vps.md"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-vps-"))
    (folder / "lab").mkdir()
    host = prefect_platform_lab.up(folder / "lab", _say)
    try:
        rows = _measure(Vps(folder, host), host, args.runs)
    finally:
        prefect_platform_lab.down(folder / "lab", _say)
        shutil.rmtree(folder, ignore_errors=True)
    text = _report(rows)
    args.out.write_text(text)
    print(text)
    print(verdict(rows))
    return 0


def _measure(vps: Vps, host: LabHost, runs: int) -> list[Row]:
    _docker(host, "tag", IMAGE, SECOND)
    _say("platform.setup on an empty host")
    first = _timed(lambda: vps.invoke("platform.setup"))
    rows = [Row("`platform.setup`, empty host with its images, to a flow run Completed (s)", first)]
    _say("a setup with nothing to do")
    rows.append(_noop(vps, host, runs))
    _say("prefect.status, beside the version before")
    rows.append(_status(vps, runs))
    ours, took = _ours(vps)
    _say("a restart of Traefik")
    door, _ = _under_load(vps.url, _headers(vps), lambda: vps.invoke("traefik.restart"))
    doors = _doors(vps, host)
    vps.invoke("platform.remove", "--data", "--yes")
    with _guide(host) as (url, up):
        theirs, their_time = _theirs(url, up)
    for what in ours:
        rows.append(
            at_most(f"requests failed during {what}, of {RATE} a second", ours[what], 0, theirs[what])
        )
        rows.append(Row("… and until the command was done (s)", took[what], their_time[what]))
    rows.append(Row(f"requests failed during a restart of Traefik itself, of {RATE} a second", door))
    return rows + doors


def _doors(vps: Vps, host: LabHost) -> list[Row]:
    """What each door adds to a request, beside the same request to the server's container."""
    _say("the two doors")
    sign_on = vps.url.replace("127.0.0.1", "localhost")
    vps.settings |= {"prefect": {"auth": "sso-or-token"}, "authentik": {"public_url": sign_on}}
    vps.write()
    vps.invoke("prefect.setup", "--with-needs")
    form = '{{(index .NetworkSettings.Networks "platform-edge-lab").IPAddress}}'
    address = _docker(host, "inspect", "--format", form, "platform-prefect-server-lab").strip()
    port, path, rows = int(vps.url.rpartition(":")[2]), "/api/health", []
    for name, headers in (("a token", _headers(vps)), ("a session of the sign-on", _session(vps))):
        with Connection(4200, path, {}, address) as direct, Connection(port, path, headers) as through:
            plain, ours = compare(direct, through, 2000)
        rows += [
            Row(f"GET {path} with {name}, p50 (ms)", ours.p50, plain.p50),
            Row(f"GET {path} with {name}, p99 (ms)", ours.p99, plain.p99),
        ]
    return rows


def _session(vps: Vps) -> dict[str, str]:
    """The cookie of a person who has signed in."""
    password = vps.invoke("authentik.first-password").stdout.strip()
    page = {"Accept": "text/html"}
    with httpx.Client(base_url=vps.url, follow_redirects=True, timeout=30) as client:
        form = client.get("/", headers=page)
        client.post(
            form.url, data={"username": "akadmin", "password": password}, headers=page
        ).raise_for_status()
        return {"Cookie": f"authentik_proxy={client.cookies['authentik_proxy']}"}


def _noop(vps: Vps, host: LabHost, runs: int) -> Row:
    """Against the plainest thing that proves as much as that all containers run and are healthy."""
    project = (
        "docker compose -p platform-lab-prefect -f /opt/platform/lab/prefect/current/compose.yml up -d --wait"
    )
    ssh = ["ssh", "-F", str(host.ssh_config), host.host, project]

    def plain() -> None:
        subprocess.run(ssh, check=True, capture_output=True)

    plain()
    pairs = [(_timed(lambda: vps.invoke("prefect.setup")), _timed(plain)) for _ in range(runs)]
    ours, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return at_most_ratio(
        "`prefect.setup` with nothing to do / `ssh docker compose up -d --wait` (s)", ours, other, 2
    )


def _status(vps: Vps, runs: int) -> Row:
    """Of the same platform, by this version and by the one that started a docker process for each question."""
    old = vps.root.parent / "before"
    git = ["git", "-C", str(Path(__file__).resolve().parents[1]), "worktree"]
    subprocess.run([*git, "add", "--detach", str(old), BEFORE], check=True, capture_output=True)
    try:
        (old / ".state").symlink_to(vps.root / ".state")
        (old / "invoke.yaml").write_text(
            yaml.safe_dump({"platform": {"environments": {"lab": vps.settings}}})
        )

        def status(root: Path) -> Callable[[], object]:
            return lambda: invoke(root, "lab", ["prefect.status"], 0, {})

        now, before = status(vps.root), status(old)
        before()  # makes its environment
        pairs = [(_timed(now), _timed(before)) for _ in range(runs)]
    finally:
        subprocess.run([*git, "remove", "--force", str(old)], check=True, capture_output=True)
    ours, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return at_most_ratio(f"`prefect.status` / the same by commit {BEFORE} (s)", ours, other, 0.5)


def _ours(vps: Vps) -> tuple[dict[str, int], dict[str, float]]:
    def change(**settings: str) -> Callable[[], object]:
        def run() -> object:
            vps.settings["prefect"] = settings
            vps.write()
            return vps.invoke("prefect.setup")

        return run

    return _updates(vps.url, _headers(vps), change(log_level="WARNING"), change(image=SECOND))


def _headers(vps: Vps) -> dict[str, str]:
    with vps.client() as client:
        return {"Authorization": client.headers["Authorization"]}


def _theirs(url: str, up: Callable[[str, str], None]) -> tuple[dict[str, int], dict[str, float]]:
    return _updates(url, {}, lambda: up(IMAGE, "WARNING"), lambda: up(SECOND, "WARNING"))


def _updates(
    url: str, headers: dict[str, str], setting: Callable[[], object], image: Callable[[], object]
) -> tuple[dict[str, int], dict[str, float]]:
    failed, seconds = {}, {}
    for what, action in (("a change of the log level", setting), ("a change of the image", image)):
        _say(f"{url}: {what}")
        failed[what], seconds[what] = _under_load(url, headers, action)
    return failed, seconds


def _under_load(url: str, headers: dict[str, str], action: Callable[[], object]) -> tuple[int, float]:
    """(requests that failed, seconds of the action)."""
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.steady_until, url, headers, f"load-{uuid.uuid4().hex}", RATE, ended)
        time.sleep(3)
        seconds = _timed(action)
        time.sleep(AFTER)
        ended.set()
        outcomes = running.result()
    return sum(bool(each.error) for each in outcomes), seconds


@contextmanager
def _guide(host: LabHost) -> Iterator[tuple[str, Callable[[str, str], None]]]:
    """Prefect's own guide, running; (URL, `docker compose up -d` with an image and a log level)."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"

    def compose(image: str, level: str, *words: str) -> None:
        file = str(Path(__file__).with_name("official-compose.yml"))
        values = {"PREFECT_IMAGE": image, "LEVEL": level, "PORT": str(port), "DOCKER_HOST": host.docker_host}
        command = ["docker", "compose", "-p", "guide", "-f", file, *words]
        subprocess.run(command, env={**os.environ, **values}, check=True, capture_output=True)

    def up(image: str, level: str) -> None:
        compose(image, level, "up", "-d")

    _say("Prefect's own Compose guide")
    try:
        up(IMAGE, "INFO")
        _until_ready(url)
        yield url, up
    finally:
        compose(IMAGE, "INFO", "down", "--volumes")


def _until_ready(url: str) -> None:
    end = time.monotonic() + 240
    while True:
        try:
            pools = httpx.get(f"{url}/api/work_pools/local-pool", timeout=5)
            if pools.status_code == 200:
                # The load asks for the pool `default`, which a fresh guide has not.
                httpx.post(
                    f"{url}/api/work_pools/", json={"name": "default", "type": "process"}
                ).raise_for_status()
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > end:
            raise RuntimeError(f"{url} does not become ready")
        time.sleep(1)


def _docker(host: LabHost, *words: str) -> str:
    command = ["docker", "--host", host.docker_host, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _report(rows: list[Row]) -> str:
    notes = [
        "*Plain* is `docker compose up -d --wait` over the same ssh connection settings for the setup with nothing to do, and Prefect's own Compose guide",
        f"(bench/official-compose.yml) for the updates: both in the same lab, one after the other, under the same {RATE} requests a second (a third of them POST, a",
        "tenth WebSocket handshakes), which nobody repeats. The load goes on for half a minute after each update. For the doors it is the same request to the",
        "server's container; the sign-on's answers come from the lab's stand-in for Authentik (its state in PostgreSQL), not from Authentik.",
    ]
    return table("VPS", "./invoke bench --vps", rows, notes)


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
