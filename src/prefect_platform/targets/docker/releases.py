"""Releases of a stack on its host, and the history of an environment: who did what, when, and how it ended."""

from __future__ import annotations

import datetime
import getpass
import json
import socket
from collections.abc import Collection, Sequence
from dataclasses import asdict

from prefect_platform.errors import ConfigError
from prefect_platform.targets.protocol import Entry

from .host import Host

GOOD = "good"
_KEPT = 10
_NAMED = """
cd "$1/releases" 2>/dev/null || exit 0
for each in *; do
    printf '%s ' "$each"; sed -n 's/^ *image: //p' "$each/compose.yml" 2>/dev/null | tr -d "'\\"" | tr '\\n' ' '; echo
done
"""
_NAMED_ELSEWHERE = """
for file in "$1"/*/*/releases/*/compose.yml; do
    case $file in "$2"/*) ;; *) grep -qF -- "$3" "$file" && exit 0 ;; esac
done
exit 1
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


def outdated(host: Host, folder: str, coming: Collection[str]) -> tuple[list[str], list[str]]:
    """(releases, images) that go when one more release comes, which names the images `coming`.

    The newest ten releases stay; images go with the last release on the host that names them.
    """
    lines = map(str.split, host.sh(_NAMED, folder).text.splitlines())
    named = {release: images for release, *images in lines}
    gone = sorted(named)[: 1 - _KEPT]
    kept = {*coming, *(image for release in named if release not in gone for image in named[release])}
    images = sorted({image for release in gone for image in named[release]} - kept)
    return gone, [
        image for image in images if host.sh(_NAMED_ELSEWHERE, host.root, folder, image, check=False).code
    ]


def delete(host: Host, folder: str, gone: Sequence[str], images: Sequence[str]) -> None:
    """Delete releases and images."""
    if gone:
        host.sh('cd "$1/releases" && shift && rm -rf -- "$@"', folder, *gone)
    for image in images:
        # Without force: an image that a container still uses stays.
        host.docker("image", "rm", image, check=False)
