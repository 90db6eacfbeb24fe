"""The rendered bundles of every stack, as a reviewer reads them. PLATFORM_GOLDEN=write renews them: read the difference."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from prefect_platform import bundle, stack
from prefect_platform.targets._supervisor import configuration

from .conftest import ROOT, Load, where


def _rendered(load: Load, stacks: dict[str, stack.Stack], name: str) -> dict[str, str]:
    example = yaml.safe_load((ROOT / "invoke.example.yaml").read_text())["platform"]
    built = bundle.build(stacks[name], load(example, root=ROOT), where(name))
    own = {path.name for path in stacks[name].folder.glob("*.j2")}
    files = {path: text.decode() for path, text in built.files.items() if f"{path}.j2" in own}
    if built.routes:
        files["routes.yml"] = built.routes.decode()
    conf = configuration(
        "/srv/prefect-platform/.state/local", "local", built.services, {name: "secretversion"}
    )
    lines = [line for line in conf.splitlines() if not line.startswith("environment=")]
    digestless = "".join(f"{line}\n" for line in lines)
    env = "".join(
        f"# {each.full_name}\n" + "".join(f"{k}={v}\n" for k, v in each.environment.items())
        for each in built.services
    )
    return {**files, "supervisord.conf": digestless, "environment.txt": env}


@pytest.mark.parametrize("name", stack.names(ROOT))
def test_rendered_as_reviewed(load: Load, stacks: dict[str, stack.Stack], name: str) -> None:
    folder = ROOT / "stacks" / name / "golden" / "local"
    rendered = _rendered(load, stacks, name)
    if os.environ.get("PLATFORM_GOLDEN") == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in rendered.items():
            (folder / path).write_text(text)
    golden = {path.name: path.read_text() for path in Path(folder).glob("*")}
    assert rendered == golden
