"""The images that the stacks name, in the lab's engine: the official ones where a registry can be reached, else stand-ins built here.

A stand-in has the official image's name, tag and interface (lab/images/README.md) and the real program inside.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from prefect_platform.errors import ApplyError

from . import base, mirrors
from .commands import WHEN_LOST, attempt
from .engine import words
from .layout import CODE, Layout
from .machine import Say

LABEL = "prefect-platform.lab"
SOURCE = f"{LABEL}.source"
"""A hash of all that an image is built from: the same hash, nothing to do."""


@dataclass(frozen=True)
class Image:
    name: str
    folder: str
    locks: tuple[str, ...] = ()
    """Locks of the repository that are installed into it."""
    code: str = ""
    """A folder of the repository that it holds, `standin` among its build contexts."""

    def source(self, below: str) -> str:
        digest = hashlib.sha256(f"{self.name} {below}".encode())
        files = sorted((CODE / "lab" / "images" / self.folder).rglob("*"))
        code = sorted((CODE / self.code).rglob("*.py")) if self.code else []
        for file in [*files, *code, *(CODE / "requirements" / lock for lock in self.locks)]:
            if file.is_file():
                digest.update(f"{file.name} {file.stat().st_mode & 0o111} ".encode() + file.read_bytes())
        return digest.hexdigest()[:16]


PYTHON = Image("platform-lab-python:trixie", "python")
"""Not a stand-in: what several of them begin with."""
STANDINS = (
    Image("postgres:17.11", "postgres"),
    Image("redis:8.10.2", "redis"),
    Image("traefik:v3.7.13", "traefik", ("runtime.txt",)),
    Image("openbao/openbao:2.6.2", "openbao"),
    Image("litestream/litestream:0.5.17", "litestream"),
    Image("prefecthq/prefect:3.8.8-python3.12", "prefect", ("runtime.txt",)),
    # Begins with the one above.
    Image(
        "ghcr.io/goauthentik/server:2026.8.5", "authentik", (), "src/prefect_platform_lab/standins/authentik"
    ),
)


def provide(layout: Layout, say: Say, only: Collection[str] = ()) -> None:
    """Provide every image (or those of `only`, by folder), in the version that belongs to this clone. Raises ApplyError with the end of the build's log."""
    wanting = [image for image in _wanting(layout) if not only or image.folder in only]
    if not wanting:
        return
    registry = True
    missing: list[Image] = []
    for image in wanting:
        # One that does not answer the first question is not asked four more times.
        registry = registry and _in_registry(layout, image)
        if not (registry and _pull(layout, image, say)):
            missing.append(image)
    if not missing:
        return
    base_id = base.provide(layout, say)
    for image in (PYTHON, *missing):
        source = image.source(base_id if image is PYTHON else PYTHON.source(base_id))
        if _label(layout, image.name, SOURCE) != source:
            _build(layout, image, source, say)
    # What was built before under the same names, unless a container still runs from it.
    attempt(words(layout, "image", "prune", "--force", "--filter", f"label={LABEL}"))


def found(layout: Layout) -> list[dict[str, str]]:
    """The images of the stacks, and what each is: stand-in, official or missing."""
    kinds = {None: "missing", "": "official", "standin": "stand-in"}
    return [
        {"name": image.name, "kind": kinds.get(_label(layout, image.name, LABEL), "stand-in")}
        for image in STANDINS
    ]


def _wanting(layout: Layout) -> list[Image]:
    """Those that are neither official nor built from what this clone has now."""
    below = PYTHON.source(base.found(layout))
    return [
        image
        for image in STANDINS
        if (label := _label(layout, image.name, SOURCE)) != "" and label != image.source(below)
    ]


def _label(layout: Layout, name: str, label: str) -> str | None:
    """Its value; empty for an image without it, None without the image."""
    question = f'{{{{index .Config.Labels "{label}"}}}}'
    code, out, _ = attempt(words(layout, "image", "inspect", "--format", question, name))
    return None if code else out.strip()


def _in_registry(layout: Layout, image: Image) -> bool:
    """Whether the registry answers; a short wait, because without a network it is the common case."""
    return attempt(words(layout, "manifest", "inspect", image.name), timeout=10)[0] == 0


def _pull(layout: Layout, image: Image, say: Say) -> bool:
    say(f"pulling {image.name}")
    return attempt(words(layout, "pull", "--quiet", image.name), timeout=900)[0] == 0


def _build(layout: Layout, image: Image, source: str, say: Say) -> None:
    kind = "base" if image is PYTHON else "standin"
    say(f"building {image.name}{'' if image is PYTHON else ' (stand-in: no registry has it for us)'}")
    log = layout.state / f"build-{image.folder}.log"
    build = words(layout, "build", "--progress", "plain", "--tag", image.name)
    build += ["--label", f"{LABEL}={kind}", "--label", f"{SOURCE}={source}"]
    build += ["--build-context", f"requirements={CODE / 'requirements'}", *mirrors.build_words(layout)]
    build += ["--build-context", f"standin={CODE / image.code}"] if image.code else []
    began, last = time.monotonic(), deque[str](maxlen=15)
    with log.open("w") as out:
        for line in _output([*build, str(CODE / "lab" / "images" / image.folder)]):
            out.write(f"{line}\n")
            last.append(line)
            if re.match(r"#\d+ \[", line):
                say(f"  {image.folder} {time.monotonic() - began:4.0f} s  {line[:110]}")
    if not last or last[-1] != "exit 0":
        text = "\n".join(last)
        raise ApplyError(f"lab: {image.name} cannot be built; whole log: {log}\n{text}", WHEN_LOST)


def _output(command: list[str]) -> Iterator[str]:
    """The lines as they come, then `exit CODE`. Interrupted, the build ends too."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    ) as process:
        try:
            for line in process.stdout or ():
                yield line.rstrip()
        except BaseException:
            process.terminate()
            raise
    yield f"exit {process.returncode}"
