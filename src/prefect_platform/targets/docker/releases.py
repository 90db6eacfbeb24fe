"""Releases of a stack on its host, and the history of an environment: who did what, when, and how it ended."""

from __future__ import annotations

import datetime
import getpass
import json
import socket
from collections.abc import Sequence
from dataclasses import asdict

from prefect_platform.errors import ConfigError
from prefect_platform.targets.protocol import Entry

from .host import Host

GOOD = "good"
_KEPT = 10
# Images that only deleted releases named go with them, unless a container still has one.
_PRUNE = """
cd "$1/releases" || exit
named() { cat -- */compose.yml 2>/dev/null | sed -n 's/^ *image: //p' | tr -d "'\\"" | sort -u; }
before=$(named)
ls -1 | sort -r | tail -n "+$(($2 + 1))" | grep -vxF "$(basename "$(readlink ../current)")" | xargs -r rm -rf --
after=$(named)
for image in $before; do printf '%s\\n' "$after" | grep -qxF "$image" || printf '%s\\n' "$image"; done
"""


def entry(what: str, release: str, result: str, detail: str) -> Entry:
    """As of now, by the current user."""
    return Entry(
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}", who(), what, release, result, detail
    )


def who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"unknown@{socket.gethostname()}"


def record(host: Host, scope_folder: str, line: Entry) -> None:
    host.append(f"{scope_folder}/history.jsonl", json.dumps(asdict(line)))


def history(host: Host, scope_folder: str) -> list[Entry]:
    """Oldest first. A line that a power cut left half written is skipped."""
    found = []
    for text in host.sh('cat "$1/history.jsonl" 2>/dev/null || true', scope_folder).text.splitlines():
        try:
            found.append(Entry(**json.loads(text)))
        except (ValueError, TypeError):
            continue
    return found


def present(host: Host, folder: str) -> list[str]:
    """The releases on the host, oldest first: their ids begin with their time."""
    return sorted(host.sh('ls -1 "$1/releases" 2>/dev/null || true', folder).text.split())


def previous_good(
    lines: Sequence[Entry], stack: str, there: Sequence[str], current: str, wanted: str = ""
) -> str:
    """The release to go back to: `wanted`, or the newest good one before the current. Raises ConfigError."""
    if wanted:
        if wanted not in there:
            raise ConfigError(
                f"--to {wanted}: no such release; releases: {', '.join(there) or 'none'}",
                f"./invoke {stack}.releases",
            )
        return wanted
    good = [
        each.release
        for each in lines
        if each.what.partition(".")[0] == stack and each.result == GOOD and each.release in there
    ]
    older = [each for each in good if each < current]
    if not older:
        raise ConfigError(f"{stack}: no earlier good release", f"./invoke {stack}.releases")
    return max(older)


def prune(host: Host, folder: str) -> None:
    """Delete all but the newest ten releases and the current one, and images that no remaining release names."""
    gone = host.sh(_PRUNE, folder, str(_KEPT), check=False).text.split()
    for image in gone:
        # Without force: an image that a container still uses stays.
        others = host.sh('grep -rqF -- "$2" "$1"/*/*/releases/*/compose.yml', host.root, image, check=False)
        if others.code:
            host.docker("image", "rm", image, check=False)
