"""What a host is: read by two small scripts, the first of which every command needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefect_platform.errors import PreflightError

_OLDEST_COMPOSE = (2, 24)
LOOK = """
uid=$(id -u); echo "uid=$uid"; echo "user=$(id -un)"
[ "$uid" = 0 ] || { sudo -n true 2>/dev/null && echo sudo=yes; }
while read -r name value unit; do [ "$name" = MemTotal: ] && echo "memory=$((value * 1024))"; done </proc/meminfo
d=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done
echo "free=$(df -Pk "$d" | awk 'NR == 2 {printf "%.0f", $4 * 1024}')"
[ -w "$d" ] && echo writable=yes
while IFS=: read -r name _ uid _ _ _ shell; do
    case $shell in */nologin | */false | "") ;; *) echo "person.$uid=$name" ;; esac
done </etc/passwd
true
"""
LOOK_FOR_DOCKER = """
command -v docker >/dev/null || exit 0
echo docker=yes
[ -n "$1" ] || docker info >/dev/null 2>&1 || sudo -n docker info >/dev/null 2>&1 && echo engine=yes
echo "compose=$(docker compose version --short 2>/dev/null)"
"""


@dataclass(frozen=True)
class HostFacts:
    """What a look at the host says. `memory` and `free` (of the disk under the root folder) are bytes; `privileged`: root, or by sudo;
    `writable`: the user itself may write there; `people`: uid → name of the accounts with a shell.
    """

    user: str
    memory: int
    free: int
    sudo: bool
    privileged: bool
    writable: bool
    people: Mapping[int, str] = field(default_factory=dict)


def parse(text: str) -> HostFacts:
    """What LOOK prints."""
    seen = _pairs(text)
    root = seen.get("uid") == "0"
    sudo = not root and seen.get("sudo") == "yes"
    return HostFacts(
        seen.get("user", ""),
        int(seen.get("memory", "0")),
        int(seen.get("free", "0")),
        sudo,
        root or sudo,
        seen.get("writable") == "yes",
        {int(key[7:]): name for key, name in seen.items() if key.startswith("person.") and key[7:].isdigit()},
    )


def _pairs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def check_docker(text: str, facts: HostFacts, place: str, root: str) -> None:
    """What LOOK_FOR_DOCKER prints. Raises PreflightError for a host that cannot run us: no Docker, old Compose, no rights."""
    seen = _pairs(text)
    prepare = "./invoke host.prepare installs Docker and Compose on a Debian or Ubuntu host"
    if seen.get("docker") != "yes":
        raise PreflightError(f"{place}: docker is not installed", prepare)
    if seen.get("engine") != "yes":
        raise PreflightError(
            f"{place}: user {facts.user} cannot reach a Docker engine",
            "start it (systemctl start docker), or add the user to sudo or the group docker",
        )
    numbers = seen.get("compose", "").lstrip("v").split("-")[0].split(".")[:2]
    if tuple(int(part) for part in numbers if part.isdigit()) < _OLDEST_COMPOSE:
        raise PreflightError(
            f"{place}: Docker Compose {seen.get('compose') or 'is missing'}; 2.24 or newer is needed", prepare
        )
    if not (facts.privileged or facts.writable):
        raise PreflightError(
            f"{place}: {facts.user} may not write {root}",
            f"on the host: install -d -o {facts.user} {root}",
        )
