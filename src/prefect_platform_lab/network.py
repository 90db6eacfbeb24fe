"""The engine's place in the machine's network: a bridge and a /16 of its own, and taking away all that it added.

The lab shares the machine's network, so that a port which a container publishes on 127.0.0.1 is reachable from here.
Docker's engine deletes the chains of any other engine when it starts. So next to one that writes iptables rules the lab's engine leaves
them alone (`--iptables=false`; published ports go through its userland proxy) and three rules of ours let its containers out. Of two labs
the first writes rules, and does so again after a reboot beside the second.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from prefect_platform.files import read_mapping, write_atomic

from .commands import WHEN_LOST, attempt, run
from .layout import Layout

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_BEFORE = Path("/run/prefect-platform-lab-before.json")
"""How the machine was before the first of several labs; the last one puts it back."""


@dataclass(frozen=True)
class Network:
    pool: str
    """For example 10.213.0.0/16; the bridge takes the last /24 of it, the engine's other networks come from the lower half."""
    alone: bool
    """No other engine writes iptables rules: this one may."""

    @property
    def prefix(self) -> str:
        return self.pool.removesuffix("0.0/16")

    @property
    def docker_pool(self) -> str:
        return f"{self.prefix}0.0/17"


def prepare(layout: Layout, others: bool) -> Network:
    """Create the bridge. The previous state is written down first, so that an interrupted run can be cleaned up as well."""
    network = _remembered(layout) or _choose(layout, others)
    network = Network(network.pool, not others)
    if not others and not _BEFORE.exists():
        policy = re.search(r"-P FORWARD (\w+)", attempt(["iptables", "-S", "FORWARD"])[1])
        before = {
            "forward": policy.group(1) if policy else "ACCEPT",
            "ip_forward": _FORWARDING.read_text().strip(),
        }
        write_atomic(_BEFORE, json.dumps(before).encode())
    write_atomic(_file(layout), json.dumps(vars(network)).encode())
    if attempt(["ip", "link", "show", layout.name])[0]:
        run(["ip", "link", "add", "name", layout.name, "type", "bridge"])
    run(["ip", "addr", "replace", f"{network.prefix}255.1/24", "dev", layout.name])
    run(["ip", "link", "set", layout.name, "up"])
    if not network.alone:
        _let_out(network)
    return network


def clean(layout: Layout, others: bool) -> None:
    """Take away what the engine and we added to the machine's network. Nothing to do is fine."""
    network = _remembered(layout)
    if network is None:
        return
    bridges = _interfaces_in(network)
    for bridge in bridges:
        attempt(["ip", "link", "delete", bridge])
    for table in ("filter", "nat"):
        gone = [] if others else _bridges_that_are_gone(table)
        _delete_rules(table, [network.prefix, *bridges, *gone, layout.name])
        if not others:
            _delete_docker_chains(table)
    if not others and (before := read_mapping(_BEFORE, WHEN_LOST)):
        attempt(["iptables", "-w", "-P", "FORWARD", before["forward"]])
        _FORWARDING.write_text(before["ip_forward"])
        _BEFORE.unlink()
    _file(layout).unlink(missing_ok=True)


def engine_runs() -> bool:
    """Whether any Docker engine runs on this machine."""
    return bool(_engines())


def iptables_are_taken() -> bool:
    """Whether an engine runs that writes iptables rules. One that leaves them alone, as a second lab's does, loses nothing to another."""
    return any("--iptables=false" not in words for words in _engines())


def _engines() -> list[list[str]]:
    """The command lines of this machine's engines."""
    running = psutil.process_iter(["name", "cmdline"])
    return [process.info["cmdline"] or [] for process in running if process.info["name"] == "dockerd"]


def _file(layout: Layout) -> Path:
    return layout.state / "network.json"


def _remembered(layout: Layout) -> Network | None:
    known = read_mapping(_file(layout), WHEN_LOST)
    return Network(**known) if known else None


def _choose(layout: Layout, others: bool) -> Network:
    """A /16 that no interface or route of this machine touches; which one is tried first depends on the clone."""
    taken = [
        ipaddress.ip_network(word, strict=False)
        for command in (["ip", "-4", "route"], ["ip", "-4", "-o", "addr"])
        for word in re.findall(r"\b\d+\.\d+\.\d+\.\d+(?:/\d+)?", run(command))
        if not word.startswith("0.")
    ]
    first = int(layout.name.removeprefix("pplab"), 16)
    pools = [f"10.{100 + (first + step) % 100}.0.0/16" for step in range(100)]
    free = (pool for pool in pools if not any(ipaddress.ip_network(pool).overlaps(each) for each in taken))
    return Network(next(free, pools[0]), not others)


def _let_out(network: Network) -> None:
    _FORWARDING.write_text("1")
    pool = network.pool
    for table, rule in (
        ("nat", ["POSTROUTING", "-s", pool, "!", "-d", pool, "-j", "MASQUERADE"]),
        ("filter", ["FORWARD", "-s", pool, "-j", "ACCEPT"]),
        ("filter", ["FORWARD", "-d", pool, "-j", "ACCEPT"]),
    ):
        if attempt(["iptables", "-w", "-t", table, "-C", *rule])[0]:
            run(["iptables", "-w", "-t", table, "-I", *rule])


def _interfaces_in(network: Network) -> list[str]:
    """Bridges that have an address of our pool: they stay when an engine ends."""
    return [
        fields[1]
        for line in attempt(["ip", "-4", "-o", "addr"])[1].splitlines()
        if (fields := line.split()) and fields[3].startswith(network.prefix)
    ]


def _bridges_that_are_gone(table: str) -> set[str]:
    """Docker's chains that rules still name: an engine that was restarted beside another one no longer removes its rules."""
    named = set(re.findall(r"\bbr-[0-9a-f]{12}\b", attempt(["iptables", "-w", "-t", table, "-S"])[1]))
    return {name for name in named if not Path("/sys/class/net", name).exists()}


def _delete_rules(table: str, marks: Sequence[str]) -> None:
    for line in attempt(["iptables", "-w", "-t", table, "-S"])[1].splitlines():
        if line.startswith("-A ") and any(mark in line for mark in marks):
            attempt(["iptables", "-w", "-t", table, "-D", *shlex.split(line)[1:]])


def _delete_docker_chains(table: str) -> None:
    """Only when no engine is left: they belong to all of them."""
    lines = attempt(["iptables", "-w", "-t", table, "-S"])[1].splitlines()
    for line in lines:
        if re.search(r"^-A (?!DOCKER).* -j DOCKER", line):
            attempt(["iptables", "-w", "-t", table, "-D", *shlex.split(line)[1:]])
    chains = [line.split()[1] for line in lines if line.startswith("-N DOCKER")]
    for step in ("-F", "-X"):
        for chain in chains:
            attempt(["iptables", "-w", "-t", table, step, chain])
