"""Benchmarks against the plain alternative, in one run: `./invoke bench [-- --runs N] [-- --out FILE]`.

The task list, a setup with nothing to do, the gateway's added latency, memory, the load of 16 clients and cold starts; ours and plain side
by side. Figures are only comparable within a run: what is published (bench/results.md) are ratios, differences and which goals were met.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.latency import Connection, compare
from bench.report import Row, at_most, at_most_more, at_most_ratio, markdown, verdict
from bench.starts import AS_USER, cold_starts, own_folder, stock_server
from tests.local.conftest import Clone
from tests.local.load import Finished, finish_runs

CLIENTS = 16
LIGHT = ("supervisord", "traefik-gateway", "gateway-verifier", "prefect-server")
"""Whose memory has a goal: everything but the worker, which a machine need not have."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="cold starts of each kind")
    parser.add_argument("--load", type=int, default=1000, help="flow runs of the load test")
    parser.add_argument("--requests", type=int, default=5000, help="of the latency test, each way")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.md"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    clone = Clone(folder)
    try:
        rows, memory = _measure(clone, folder, args)
    finally:
        clone.invoke("prefect.remove", "--yes", "--data", code=None)
        shutil.rmtree(folder, ignore_errors=True)
    text = markdown(rows, memory)
    args.out.write_text(text)
    print(text)
    print(verdict(rows))
    return 0


def _measure(clone: Clone, folder: Path, args: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    _say("setting up (installs the runtime)")
    clone.invoke("prefect.setup")
    memory = _memory(clone)
    python = next((clone.root / ".state" / "runtime").glob("*/bin/python"))
    token = clone.invoke("gateway.create-token", "--project", "bench", "--service", "load").stdout.strip()
    _say("task list, setup with nothing to do")
    rows = [_task_list(clone, folder), _noop(clone, args.runs)]
    rows.append(at_most("memory without the worker (MB)", sum(memory[name] for name in LIGHT), 400))
    _say("latency")
    rows += _latency(clone, token, args.requests)
    _say(f"load of {CLIENTS} clients, ours")
    headers = {"Authorization": f"Bearer {token}"}
    ours = finish_runs(f"{clone.url}/prefect/api", headers, CLIENTS, args.load)
    _say(f"load of {CLIENTS} clients, stock")
    with stock_server(python, folder / "stock-load") as url:
        stock = finish_runs(url, {}, CLIENTS, args.load)
    rows += _load(ours, stock, args.load)
    _say("cold starts")
    rows += cold_starts(clone, python, folder, token, args.runs)
    return rows, memory


def _task_list(clone: Clone, folder: Path, pairs: int = 15) -> Row:
    """Against Invoke alone in the same environment; it ends with 1, having no task to list."""
    empty = folder / "empty"
    own_folder(empty)
    (empty / "tasks.py").write_text("")
    python = str(clone.root / ".venv" / "bin" / "python")

    def plain() -> None:
        words = [python, "-m", "invoke", "--list"]
        env = {"PATH": os.environ["PATH"], "HOME": str(clone.home)}
        done = subprocess.run(
            words, cwd=empty, env=env, capture_output=True, text=True, check=False, **AS_USER
        )
        if "No tasks found" not in done.stderr + done.stdout:
            raise RuntimeError(done.stderr)

    times = [(_timed(lambda: clone.invoke("--list")), _timed(plain)) for _ in range(pairs)]
    ours, other = (statistics.median(column) for column in zip(*times, strict=True))
    return at_most_ratio("`./invoke --list` (s)", ours, other, 1.6)


def _noop(clone: Clone, runs: int) -> Row:
    seconds = statistics.median(_timed(lambda: clone.invoke("prefect.setup")) for _ in range(runs))
    return at_most("`prefect.setup` with nothing to do (s)", seconds, 2.5)


def _latency(clone: Clone, token: str, count: int) -> list[Row]:
    path = "/prefect/api/health"
    with (
        Connection(clone.ports["prefect"], path, {}) as plain,
        Connection(clone.ports["port"], path, {"Authorization": f"Bearer {token}"}) as gate,
    ):
        direct, through = compare(plain, gate, count)
    return [
        at_most_more("GET /health through the gateway, p50 (ms)", through.p50, direct.p50, 1),
        at_most_more("GET /health through the gateway, p99 (ms)", through.p99, direct.p99, 5),
    ]


def _memory(clone: Clone) -> dict[str, float]:
    """PSS in MB by process, the supervisor's too."""
    pids = clone.pids()
    pids["supervisord"] = psutil.Process(next(iter(pids.values()))).ppid()
    return {name: psutil.Process(pid).memory_full_info().pss / 2**20 for name, pid in sorted(pids.items())}


def _load(ours: Finished, stock: Finished, total: int) -> list[Row]:
    for line in ours.errors[:5]:
        _say(f"failed run: {line}")
    failed = at_most(
        f"{total} flow runs by {CLIENTS} clients: failed", len(ours.errors), 0, len(stock.errors)
    )
    good, other = ((total - len(each.errors)) / each.seconds for each in (ours, stock))
    return [failed, Row("the same: finished runs a second", good, other)]


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
