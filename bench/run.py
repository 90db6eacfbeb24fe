"""Benchmarks against the plain alternative, in one run: `./invoke bench [-- --runs N] [-- --out FILE]`.

Cold start of the combined platform through its gateway against `prefect server start`, the gateway's added latency, memory, and the load
of 16 clients on both. Figures are only comparable within a run; the ratios are what is published (bench/results.md).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import platform as machine
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.local.conftest import Clone, free_ports

CLIENTS, RUNS = 16, 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="cold starts of each kind")
    parser.add_argument("--load", type=int, default=RUNS, help="flow runs of the load test")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.md"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    clone = Clone(folder)
    try:
        text = _report(clone, folder, args.runs, args.load)
    finally:
        clone.invoke("prefect.remove", "--yes", "--data", code=None)
        shutil.rmtree(folder, ignore_errors=True)
    print(text)
    args.out.write_text(text)
    return 0


def _report(clone: Clone, folder: Path, runs: int, load: int) -> str:
    _say("setting up (installs the runtime)")
    clone.invoke("prefect.setup")
    python = next((clone.root / ".state" / "runtime").iterdir()) / "bin" / "python"
    token = clone.invoke("gateway.create-token", "--project", "bench", "--service", "load").stdout.strip()
    rows = [_noop(clone, runs)]
    _say("latency and memory")
    rows += _latency(clone, token)
    memory = _memory(clone)
    _say("load of 16 clients, ours")
    ours = _load(f"{clone.url}/prefect/api", {"Authorization": f"Bearer {token}"}, load)
    _say("load of 16 clients, stock")
    with _stock(python, folder / "stock-load") as url:
        stock = _load(url, {}, load)
    _say("cold starts")
    rows += _cold_starts(clone, python, folder, token, runs)
    return _markdown(rows, memory, ours, stock, load)


def _noop(clone: Clone, runs: int) -> tuple[str, float, float | None]:
    return (
        "`prefect.setup` with nothing to do",
        statistics.median(_timed(lambda: clone.invoke("prefect.setup")) for _ in range(runs)),
        None,
    )


def _cold_starts(
    clone: Clone, python: Path, folder: Path, token: str, runs: int
) -> list[tuple[str, float, float | None]]:
    """From nothing running to the first 200 of the API, ours by the supervisor's start, stock by `prefect server start`."""
    fresh_ours: list[float] = []
    fresh_stock: list[float] = []
    old_ours: list[float] = []
    old_stock: list[float] = []
    for number in range(runs):
        clone.invoke("prefect.stop")
        shutil.rmtree(clone.root / ".state" / "local" / "data" / "prefect")
        (clone.root / ".state" / "local" / "data" / "prefect").mkdir(mode=0o700)
        fresh_ours.append(_start_ours(clone, python, token))
        clone.invoke("prefect.stop")
        old_ours.append(_start_ours(clone, python, token))
        home = folder / f"stock-{number}"
        for times in (fresh_stock, old_stock):
            began = time.monotonic()
            with _stock(python, home):
                times.append(time.monotonic() - began)
    median = statistics.median
    return [
        ("cold start, fresh database", median(fresh_ours), median(fresh_stock)),
        ("cold start, existing database", median(old_ours), median(old_stock)),
    ]


def _start_ours(clone: Clone, python: Path, token: str) -> float:
    state = clone.root / ".state" / "local"
    command = [str(python), "-m", "supervisor.supervisord", "-c", str(state / "run" / "supervisord.conf")]
    began = time.monotonic()
    subprocess.run(command, env={"PATH": os.environ["PATH"], "HOME": str(clone.home)}, check=True)
    with httpx.Client(base_url=clone.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        _until(lambda: client.get("/ping").status_code == 200)
        first = client.get("/prefect/api/health").status_code
        assert first == 200, f"the first request after /ping was answered {first}"
    return time.monotonic() - began


@contextlib.contextmanager
def _stock(python: Path, home: Path) -> Iterator[str]:
    """A plain `prefect server start`, ready; its API's URL."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [str(python), "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    home.mkdir(exist_ok=True)
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(timeout=5) as client:
            _until(lambda: client.get(f"{url}/health").status_code == 200)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _latency(clone: Clone, token: str) -> list[tuple[str, float, float | None]]:
    direct, through = [], []
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{clone.ports['prefect']}") as plain,
        httpx.Client(base_url=clone.url, headers={"Authorization": f"Bearer {token}"}) as gate,
    ):
        for _ in range(1000):
            direct.append(_timed(lambda: plain.get("/prefect/api/health")))
            through.append(_timed(lambda: gate.get("/prefect/api/health")))
    at = [("p50", 50), ("p99", 99)]
    return [
        (
            f"GET /health, {name}, through the gateway against direct (s)",
            statistics.quantiles(through, n=100)[q - 1],
            statistics.quantiles(direct, n=100)[q - 1],
        )
        for name, q in at
    ]


def _memory(clone: Clone) -> dict[str, float]:
    """PSS in MB by process, the supervisor's too."""
    pids = clone.pids()
    pids["supervisord"] = psutil.Process(next(iter(pids.values()))).ppid()
    return {name: psutil.Process(pid).memory_full_info().pss / 2**20 for name, pid in sorted(pids.items())}


def _load(url: str, headers: dict[str, str], total: int) -> dict[str, float]:
    """Create and finish flow runs, no retries: errors are counted, of both calls."""
    with httpx.Client(headers=headers, timeout=60) as client:
        flow = client.post(f"{url}/flows/", json={"name": "bench"}).json()["id"]

    def one(count: int) -> int:
        errors = 0
        with httpx.Client(headers=headers, timeout=60) as client:
            for _ in range(count):
                try:
                    made = client.post(
                        f"{url}/flow_runs/", json={"flow_id": flow, "state": {"type": "RUNNING"}}
                    )
                    made.raise_for_status()
                    body = {"state": {"type": "COMPLETED"}, "force": True}
                    client.post(
                        f"{url}/flow_runs/{made.json()['id']}/set_state", json=body
                    ).raise_for_status()
                except httpx.HTTPError:
                    errors += 1
        return errors

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        errors = sum(pool.map(one, [total // CLIENTS] * CLIENTS))
    return {"errors": errors, "seconds": time.monotonic() - began}


def _until(done: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if done():
                return
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _markdown(
    rows: list[tuple[str, float, float | None]],
    memory: dict[str, float],
    ours: dict[str, float],
    stock: dict[str, float],
    load: int,
) -> str:
    cores, ram = os.cpu_count(), psutil.virtual_memory().total / 2**30
    lines = [
        "# Results",
        "",
        f"{machine.system()} {machine.machine()}, {cores} cores, {ram:.0f} GiB, Python {machine.python_version()}, {time.strftime('%Y-%m-%d')}, one run of `./invoke bench`.",
        "",
        "| what | ours | plain Prefect | ratio |",
        "|---|---|---|---|",
    ]
    for name, value, other in rows:
        shown = "" if other is None else f"{other:.4g} | {value / other:.2f}"
        lines.append(f"| {name} | {value:.4g} | {shown or '– | –'} |")
    lines.append(
        f"| {load} runs by {CLIENTS} clients: failed runs | {ours['errors']:.0f} | {stock['errors']:.0f} | – |"
    )
    good = [(load - each["errors"]) / each["seconds"] for each in (ours, stock)]
    ratio = f"{good[0] / good[1]:.2f}" if good[1] else "–"
    lines.append(f"| the same: finished runs a second | {good[0]:.1f} | {good[1]:.1f} | {ratio} |")
    lines += [
        "",
        "Memory after the canary, PSS in MB: "
        + ", ".join(f"{name} {value:.0f}" for name, value in memory.items())
        + ".",
    ]
    lines.append(
        f"Without the worker: {sum(value for name, value in memory.items() if 'worker' not in name):.0f} MB."
    )
    return "\n".join(lines) + "\n"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
