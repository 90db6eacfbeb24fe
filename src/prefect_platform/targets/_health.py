"""Containers as a person asks for them, and why one is not healthy."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any

from . import Process
from ._host import Host

_LINES = 50


def memory(host: Host) -> dict[str, int]:
    """Container name → bytes that the kernel counts for it."""
    lines = host.docker(
        "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", check=False
    ).text.splitlines()
    return {name: _bytes(used) for name, used, *_ in (line.split() for line in lines)}


def _bytes(text: str) -> int:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1)):
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * size)
    return 0


def process(container: Mapping[str, Any], used: int = 0) -> Process:
    """From `docker inspect`. A container is well when it runs and its health check, if it has one, says so."""
    state, labels = container["State"], container["Config"]["Labels"]
    name = f"{labels['prefect-platform.stack']}-{labels['prefect-platform.service']}"
    health = state.get("Health", {}).get("Status", "")
    restarts = container.get("RestartCount", 0)
    age = _age(state["StartedAt"]) if state["Running"] else 0
    detail = f"{health or 'no health check'}, {restarts} restarts, {container['Config']['Image']}"
    if state["Status"] == "exited" and state["ExitCode"] == 0 and labels.get("prefect-platform.once"):
        return Process(name, "DONE", 0, 0, 0, detail)
    well = state["Running"] and not state.get("Restarting") and health in ("", "healthy", "starting")
    return Process(
        name,
        "RUNNING" if well else _word(state, health),
        state["Pid"],
        age,
        0,
        detail if well else why(container),
    )


def _word(state: Mapping[str, Any], health: str) -> str:
    return "UNHEALTHY" if state["Running"] and health == "unhealthy" else str(state["Status"]).upper()


def _age(started: str) -> int:
    moment = datetime.datetime.fromisoformat(started[:19]).replace(tzinfo=datetime.UTC)
    return max(0, int(time.time() - moment.timestamp()))


def why(container: Mapping[str, Any]) -> str:
    """Exit code, memory, and what the last health probe said."""
    state = container["State"]
    parts = []
    if state.get("OOMKilled"):
        parts.append("killed for want of memory (raise its memory limit)")
    if not state["Running"] or state.get("Restarting"):
        parts.append(f"ended with exit code {state['ExitCode']}")
    probes = (state.get("Health") or {}).get("Log") or []
    if probes and probes[-1]["ExitCode"]:
        parts.append(
            f"last probe: {probes[-1]['Output'].strip()[-300:] or 'exit code ' + str(probes[-1]['ExitCode'])}"
        )
    return "; ".join(parts) or str(state["Status"])


def cause(host: Host, env: str, stack: str) -> str:
    """For each container of a stack that is not well: why, and its last lines."""
    found = []
    for container in host.containers(env=env, stack=stack):
        each = process(container)
        starting = container["State"].get("Health", {}).get("Status") == "starting"
        if each.state in ("RUNNING", "DONE") and not starting:
            continue
        logs = host.docker("logs", "--tail", str(_LINES), container["Name"].lstrip("/"), check=False)
        lines = [line for line in (logs.text + logs.stderr).splitlines() if line.strip()]
        found.append(
            f"{each.name}: {why(container)}\n" + "\n".join(f"    {line}" for line in lines[-_LINES:])
        )
    return "\n".join(found)
