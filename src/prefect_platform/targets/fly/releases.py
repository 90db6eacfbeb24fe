"""What is kept here of each image that was deployed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect_platform.files import make_private, write_atomic
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import wanted_files
from prefect_platform.targets.fly import render
from prefect_platform.targets.fly.flyctl import Json

_KEPT = 10


class Releases:
    """`releases/<tag>/` in the state folder: what each image was built from. It is what a plan is compared with."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "releases"

    def of(self, tag: str) -> Path:
        return self.folder / tag

    def facts(self, tag: str) -> Json:
        """`files` as a plan names them, `services`, `versions`; empty for a release that was made elsewhere."""
        try:
            return dict(json.loads((self.of(tag) / "release.json").read_text()))
        except (OSError, ValueError):
            return {}

    def files(self, tag: str) -> dict[str, bytes]:
        folder = self.of(tag) / "context"
        return {
            name: (folder / place).read_bytes()
            for name, place in self.facts(tag).get("files", {}).items()
            if (folder / place).is_file()
        }

    def write(self, tag: str, bundles: Sequence[Bundle], versions: Mapping[str, str]) -> Path:
        """The build's folder, complete."""
        folder = self.of(tag) / "context"
        shutil.rmtree(folder, ignore_errors=True)
        make_private(self.folder)
        for path, body in render.context(bundles).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        prefix, top = f"{render.MACHINE}/", ("Dockerfile", "fly.toml")
        places = {
            name: name.removeprefix(prefix) if name.removeprefix(prefix) in top else name
            for name in wanted_files(bundles)
        }
        services = {each.full_name: each.facts() for bundle in bundles for each in bundle.services}
        facts = {"files": places, "services": services, "versions": dict(versions)}
        write_atomic(self.of(tag) / "release.json", json.dumps(facts, sort_keys=True).encode())
        return folder

    def prune(self, keep: str) -> None:
        there = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in there[_KEPT:]:
            if old.name != keep:
                shutil.rmtree(old, ignore_errors=True)


def reference(machine: Json) -> str:
    """registry/repository:tag of the machine's image."""
    found = machine.get("image_ref") or {}
    return f"{found.get('registry', '')}/{found.get('repository', '')}:{found.get('tag', '')}"
