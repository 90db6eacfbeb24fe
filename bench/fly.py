"""Benchmarks of the Fly machine's image in the lab's engine, as root: `./invoke bench --fly [-- --runs N] [-- --out FILE]`.

How long from the container's start to the first good answer through the gateway, beside a stock `prefect server start` in the same image with
the same limits; whether any request after the first /ping was not good; how much memory the machine takes at most.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prefect_platform_lab
from bench.report import Row, at_most, at_most_ratio, table, verdict
from tests.fly.app import Fly
from tests.local.conftest import free_ports

MEMORY, CPUS = "512m", "1"
MIGRATE = ("--sysctl", "net.ipv4.tcp_migrate_req=1")
"""What the machine's root sets there and cannot set in a container: machine/hold.py needs it."""
RUNS = 200
FLOW = "from prefect import flow\n@flow\ndef outside(): return 1\nfor _ in range(3): outside()\n"


class Machine:
    """Containers of the image, started by hand; `volume` is empty at first."""

    def __init__(self, fly: Fly) -> None:
        found = fly.known()["apps"][fly.app]
        reference = found["machines"][0]["image_ref"]
        self.image = f"{reference['registry']}/{reference['repository']}:{reference['tag']}"
        self.environ = fly.environ
        self.secrets = fly.folder / "bench.env"
        self.secrets.touch(0o600)
        values = {name: each["value"] for name, each in found["secrets"].items()}
        self.secrets.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        (self.port,) = free_ports(1)
        self.tokens = found["volumes"][0]["docker"]
        made = fly.invoke("gateway.create-token", "--project=bench", "--service=starts").stdout.strip()
        self.headers = {"Authorization": f"Bearer {made}"}

    def docker(self, *words: str) -> str:
        environ = {**os.environ, **self.environ}
        return subprocess.run(
            ["docker", *words], check=True, capture_output=True, text=True, env=environ
        ).stdout

    def start(self, volume: str, inside: int, words: Sequence[str], path: str) -> tuple[float, int]:
        """Seconds from the container's start to the first 200 at `path`, and how many requests after /ping's first were not good."""
        limits = ("--memory", MEMORY, "--memory-swap", MEMORY, "--cpus", CPUS, *MIGRATE)
        name, place = f"bench-{volume}", ("-v", f"{volume}:/data", "-p", f"127.0.0.1:{self.port}:{inside}")
        self.docker("create", "--name", name, *limits, *place, "--env-file", str(self.secrets), *words)
        began = time.monotonic()
        self.docker("start", name)
        try:
            return self._until(path, began)
        finally:
            self.docker("stop", name)
            self.docker("rm", name)

    def _until(self, path: str, began: float) -> tuple[float, int]:
        bad, awake = 0, path == "/api/ready"
        url = f"http://127.0.0.1:{self.port}"
        with httpx.Client(base_url=url, headers=self.headers, timeout=60) as client:
            while time.monotonic() - began < 180:
                try:
                    if not awake:
                        awake = client.get("/ping").status_code == 200
                        continue
                    if client.get(path).status_code == 200:
                        return time.monotonic() - began, bad
                    bad += 1
                except httpx.TransportError:
                    bad += awake and path != "/api/ready"
                time.sleep(0.02)
        raise RuntimeError(f"{url}{path} does not answer")

    def volume(self, name: str) -> None:
        """A new one, with nothing but the gateway's tokens: who asks needs one."""
        self.docker("volume", "create", name)
        copy = "mkdir /b/gateway && cp -p /a/gateway/gateway.db* /b/gateway && chown -R 1001:1001 /b/gateway"
        places = ("-v", f"{self.tokens}:/a", "-v", f"{name}:/b")
        self.docker("run", "--rm", *places, "--entrypoint", "sh", self.image, "-c", copy)

    def ours(self, volume: str) -> tuple[float, int]:
        return self.start(volume, 8080, (self.image,), "/prefect/api/ready")

    def stock(self, volume: str) -> float:
        serve = ("server", "start", "--host", "0.0.0.0", "--port", "4200")
        words = ("-e", "PREFECT_HOME=/data", "--entrypoint", "prefect", self.image, *serve)
        return self.start(volume, 4200, words, "/api/ready")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each start")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results-fly.md"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-fly-"))
    for name in ("lab", "fly"):
        (folder / name).mkdir()
    host = prefect_platform_lab.up(folder / "lab", _say, standins=("prefect", "traefik"))
    try:
        fly = Fly(folder / "fly", host, "bench-gateway", memory="512mb")
        fly.settings["prefect"] = {"workers": []}
        fly.write()
        _say("prefect.setup: building the image")
        fly.invoke("prefect.setup")
        rows = [*_starts(Machine(fly), args.runs), _memory(fly)]
    finally:
        prefect_platform_lab.down(folder / "lab", _say)
        shutil.rmtree(folder, ignore_errors=True)
    text = table("Fly", "./invoke bench --fly", rows, NOTES)
    args.out.write_text(text)
    print(text)
    print(verdict(rows))
    return 0


def _starts(machine: Machine, runs: int) -> list[Row]:
    times: dict[str, list[float]] = {"ours fresh": [], "ours": [], "stock fresh": [], "stock": []}
    bad = 0
    for number in range(runs):
        _say(f"starts {number + 1} of {runs}")
        for kind in ("ours", "stock"):
            volume = f"{kind}-{number}"
            machine.volume(volume)
            for name in (f"{kind} fresh", kind):
                seconds, refused = machine.ours(volume) if kind == "ours" else (machine.stock(volume), 0)
                times[name].append(seconds)
                bad += refused
            machine.docker("volume", "rm", volume)
    median = {name: statistics.median(values) for name, values in times.items()}
    return [
        at_most_ratio(
            "start to the first 200, empty volume (s)", median["ours fresh"], median["stock fresh"], 0.5
        ),
        at_most_ratio("start to the first 200, existing volume (s)", median["ours"], median["stock"], 1.1),
        at_most(f"requests after the first 200 of `/ping` that were not good, in {2 * runs} starts", bad, 0),
    ]


def _memory(fly: Fly) -> Row:
    """The most that all processes of the machine had, by proportional set size, while flows ran outside and runs were created."""
    _say("memory")
    ended, seen = threading.Event(), [0.0]

    def look() -> None:
        script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {sum += $2} END {print sum}'"
        words = ["docker", "exec", "--privileged", fly.container, "sh", "-c", script]
        while not ended.wait(0.3):
            done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **fly.environ})
            seen.append(float(done.stdout or 0) / 1024)

    looking = threading.Thread(target=look)
    looking.start()
    token = fly.invoke("gateway.create-token", "--project=bench", "--service=fly").stdout.strip()
    headers, api = {"Authorization": f"Bearer {token}"}, f"{fly.url}/prefect/api"
    environ = {
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_CLIENT_CUSTOM_HEADERS": json.dumps(headers),
        "PREFECT_HOME": str(fly.folder / "home"),
    }
    subprocess.run([sys.executable, "-c", FLOW], env=environ, check=True, capture_output=True)
    with httpx.Client(headers=headers, timeout=60) as client:
        flow = client.post(f"{api}/flows/", json={"name": "bench"}).json()["id"]
        for _ in range(RUNS):
            client.post(f"{api}/flow_runs/", json={"flow_id": flow}).raise_for_status()
    time.sleep(2)
    ended.set()
    looking.join()
    return at_most(
        f"memory at most, flows from outside and {RUNS} runs created (MB, PSS of all processes)",
        max(seen),
        450,
    )


NOTES = [
    f"The image in a real Docker engine with {MEMORY} and {CPUS} CPU, no worker inside. *Plain* is `prefect server start` in the same image (byte code included), with the same limits.",
    "Seconds are from `docker start` to the first 200: ours at `/prefect/api/ready` through the gateway with a token, plain at `/api/ready`. An empty volume has the gateway's tokens, for who asks needs one. In this lab the engine",
    "has no control groups for memory: the limit is what was asked for, not what was enforced; what was used is measured.",
]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
