"""The state of containers as operators read it, and why one is unhealthy."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect_platform.targets import launched
from prefect_platform.targets.protocol import Process

from .host import Host

_LINES = 50
# By the shell's own means: a process for each value costs more than all the reading.
_MEMORY = """
lacks=
for pid in "$@"; do
    group=
    while IFS= read -r line; do case $line in 0::*) group=/sys/fs/cgroup${line#0::} ;; esac; done <"/proc/$pid/cgroup"
    [ -r "$group/memory.current" ] || { lacks=yes; continue; }
    read -r used <"$group/memory.current"
    while read -r name value; do [ "$name" = inactive_file ] && cache=$value; done <"$group/memory.stat"
    echo "group $pid $((used - cache)) -"
done 2>/dev/null
[ -z "$lacks" ] || ps -e -o pid=,rss=,ppid= | sed 's/^/process /'
"""


def memory(host: Host, containers: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Process id of each running container → bytes: as `docker stats` counts (its control group, without the file cache that the
    kernel can drop), or, where the kernel does not count for groups, what its processes have resident. One command for all:
    `docker stats` takes two seconds to measure the processors too.
    """
    pids = [each["State"]["Pid"] for each in containers if each["State"]["Pid"]]
    seen = [line.split() for line in host.sh(_MEMORY, *map(str, pids)).text.splitlines()]
    counted = {int(pid): int(size) for kind, pid, size, *_ in seen if kind == "group"}
    tree = {int(pid): (int(parent), int(size)) for kind, pid, size, parent in seen if kind == "process"}
    return {pid: counted.get(pid) or _resident(pid, tree) for pid in pids}


def _resident(pid: int, tree: Mapping[int, tuple[int, int]]) -> int:
    children = [each for each, (parent, _) in tree.items() if parent == pid]
    own = tree.get(pid, (0, 0))[1] * 1024
    return own + sum(_resident(each, tree) for each in children)


_BY_SIGNAL = (130, 137, 143)
"""Exit codes that say nothing of what the program did: INT, KILL, TERM."""


def unfinished(container: Mapping[str, Any]) -> bool:
    """Whether it is to run once, and somebody ended its last run or let it not begin."""
    state, labels = container["State"], container["Config"]["Labels"]
    ended = state["Status"] in ("exited", "dead") and state["ExitCode"] in _BY_SIGNAL
    return bool(labels.get("prefect-platform.once")) and (ended or state["Status"] == "created")


def settled(containers: Sequence[Mapping[str, Any]], stack: str) -> bool:
    """Whether every lasting service of a stack runs and passes its health check: what ran once before them has done its work."""
    lasting = [
        each
        for each in containers
        if each["Config"]["Labels"]["prefect-platform.stack"] == stack
        and not each["Config"]["Labels"].get("prefect-platform.once")
    ]
    well = (
        process(each).state == "RUNNING" and each["State"].get("Health", {}).get("Status") != "starting"
        for each in lasting
    )
    return bool(lasting) and all(well)


def done_before(container: Mapping[str, Any]) -> Process:
    """A run-once service whose last run did not finish, while those that need it run."""
    labels, state = container["Config"]["Labels"], container["State"]
    end = "did not begin" if state["Status"] == "created" else f"ended with exit code {state['ExitCode']}"
    said = f"its last run {end}; the services that need it run, and the next setup runs it again"
    return Process(
        labels["prefect-platform.stack"], labels["prefect-platform.service"], "DONE", 0, 0, 0, said
    )


def process(container: Mapping[str, Any], used: int = 0) -> Process:
    """From `docker inspect`; `used` is memory in bytes. A container is well when it runs and its health check, if any, passes."""
    state, labels = container["State"], container["Config"]["Labels"]
    name = labels["prefect-platform.stack"], labels["prefect-platform.service"]
    health = state.get("Health", {}).get("Status", "")
    restarts = container.get("RestartCount", 0)
    age = _age(state["StartedAt"]) if state["Running"] else 0
    detail = f"{health or 'no health check'}, {restarts} restarts, {container['Config']['Image']}"
    if state["Status"] == "exited" and state["ExitCode"] == 0 and labels.get("prefect-platform.once"):
        return Process(*name, "DONE", 0, 0, 0, detail)
    if said := launched.described(_said(state)):
        detail = f"{detail}, {said}"
    stuck = state.get("Restarting") or state.get("Paused")
    well = state["Running"] and not stuck and health in ("", "healthy", "starting")
    return Process(
        *name,
        "RUNNING" if well else _word(state, health),
        state["Pid"],
        age,
        used,
        detail if well else why(container),
    )


def _said(state: Mapping[str, Any]) -> str:
    """By the last health check that passed."""
    probes = (state.get("Health") or {}).get("Log") or []
    return next((str(each["Output"]) for each in reversed(probes) if each["ExitCode"] == 0), "")


def _word(state: Mapping[str, Any], health: str) -> str:
    known = state["Status"] == "running" and health == "unhealthy"
    return "UNHEALTHY" if known else str(state["Status"]).upper()


def _age(started: str) -> int:
    moment = datetime.datetime.fromisoformat(started[:19]).replace(tzinfo=datetime.UTC)
    return max(0, int(time.time() - moment.timestamp()))


def why(container: Mapping[str, Any]) -> str:
    """Exit code, memory, and the output of the last health probe."""
    state = container["State"]
    parts = []
    if state.get("OOMKilled"):
        parts.append("killed: out of memory (raise its memory limit)")
    if not state["Running"] or state.get("Restarting"):
        parts.append(f"ended with exit code {state['ExitCode']}")
    probes = (state.get("Health") or {}).get("Log") or []
    if probes and probes[-1]["ExitCode"]:
        parts.append(
            f"last probe: {probes[-1]['Output'].strip()[-300:] or 'exit code ' + str(probes[-1]['ExitCode'])}"
        )
    return "; ".join(parts) or str(state["Status"])


def cause(host: Host, env: str, stack: str) -> str:
    """Why each unhealthy container of a stack is so, with the last lines of its log."""
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
