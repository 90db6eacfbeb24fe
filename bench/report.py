"""Figures, what was hoped of them, and the table that is published."""

from __future__ import annotations

import os
import platform as machine
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Row:
    """One figure. `plain` is the same without us, measured in the same run."""

    what: str
    ours: float
    plain: float | None = None
    goal: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        other = ["–", "–", "–"]
        if self.plain is not None:
            ratio = f"{self.ours / self.plain:.2f}" if self.plain else "–"
            other = [_shown(self.plain), ratio, f"{self.ours - self.plain:+.3g}"]
        verdict = {None: "–", True: "met", False: "**missed**"}[self.met]
        return [self.what, _shown(self.ours), *other, self.goal or "–", verdict]


def at_most_ratio(what: str, ours: float, plain: float, limit: float) -> Row:
    return Row(what, ours, plain, f"ratio ≤ {limit:g}", ours <= limit * plain)


def at_most_more(what: str, ours: float, plain: float, limit: float) -> Row:
    return Row(what, ours, plain, f"difference ≤ {limit:g}", ours - plain <= limit)


def at_most(what: str, ours: float, limit: float, plain: float | None = None) -> Row:
    return Row(what, ours, plain, f"≤ {limit:g}", ours <= limit)


def markdown(rows: Sequence[Row], memory: dict[str, float]) -> str:
    parts = ", ".join(f"{name} {value:.0f}" for name, value in memory.items())
    notes = [
        "*Plain* is stock Prefect of the same version and Python; for `--list` Invoke with an empty tasks file; for the",
        "gateway the same requests to the server directly.",
    ]
    return table("", "./invoke bench", rows, notes) + f"\nMemory after the canary, PSS in MB: {parts}.\n"


def table(title: str, command: str, rows: Sequence[Row], notes: Sequence[str]) -> str:
    """What is published: the machine, what plain means, the figures."""
    head = ["what", "ours", "plain", "ratio", "difference", "goal", ""]
    lines = [head, ["---"] * len(head), *(row.cells() for row in rows)]
    return "\n".join(
        [
            f"# Results{f': {title}' if title else ''}",
            "",
            f"One run of `{command}`, {time.strftime('%Y-%m-%d')}. {_machine()}",
            "",
            "Times differ from machine to machine; what was measured side by side in one run, the ratios, does less so.",
            *notes,
            "",
            *(f"| {' | '.join(cells)} |" for cells in lines),
            "",
        ]
    )


def verdict(rows: Sequence[Row]) -> str:
    """A line for each goal."""
    return "\n".join(
        f"{'met   ' if row.met else 'MISSED'}  {row.what}: {_shown(row.ours)}, goal {row.goal}"
        for row in rows
        if row.met is not None
    )


def _shown(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def _machine() -> str:
    ram = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{machine.system()} {machine.release()} {machine.machine()}, {os.cpu_count()} cores ({_cpu()}), {ram:.0f} GiB, "
        f"Python {machine.python_version()}; load average at the end {load:.1f}."
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown"
