"""The rendered bundles of every stack, as a reviewer reads them. PLATFORM_GOLDEN=write renews them: read the difference."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from prefect_platform.config import stack
from prefect_platform.planning import bundle, render
from prefect_platform.targets.combined.supervisord_conf import configuration
from prefect_platform.targets.compose import compose_file
from prefect_platform.targets.compose import names as _names
from prefect_platform.targets.fly import render as machine

from .conftest import ROOT, TRAITS, Load, where


def _rendered(load: Load, stacks: dict[str, stack.Stack], name: str) -> dict[str, str]:
    example = yaml.safe_load((ROOT / "invoke.example.yaml").read_text())["platform"]
    built = render.build(stacks[name], load(example, root=ROOT), where(name))
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


def _composed(load: Load, name: str) -> dict[str, str]:
    """As the example's production environment gets it, on a host with 8 GiB."""
    example = yaml.safe_load((ROOT / "invoke.example.yaml").read_text())["platform"]
    chosen = load(example, env="production", root=ROOT)
    each = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])[name]
    each = each.as_set(chosen.values[each.section])
    memory = 8 * 2**30
    built = render.build(each, chosen, _names.where(chosen, each.scope), memory)
    finished = compose_file.finish(built, _names.frame(chosen, each))
    # Files that are copied as they are stand in the stack's folder already.
    own = {path.name.removesuffix(".j2") for path in each.folder.glob("*.j2")} | {
        "compose.yml",
        "agent.hcl",
        "secrets.ctmpl",
    }
    files = {
        Path(path).name: body.decode() for path, body in finished.files.items() if Path(path).name in own
    }
    return files | ({"routes.yml": finished.routes.decode()} if finished.routes else {})


def _machined(load: Load) -> dict[str, bundle.Bundle]:
    """The example's Fly environment: every stack's bundle by name, and the machine's own."""
    example = yaml.safe_load((ROOT / "invoke.example.yaml").read_text())["platform"]
    chosen = load(example, env="fly", root=ROOT)
    declared = stack.with_needs(stack.for_target(stack.read_all(ROOT), TRAITS["fly"]), "prefect")
    there = [each.as_set(chosen.values[each.section]) for each in declared]
    built = [render.build(each, chosen, machine.where(each.name)) for each in there]
    made = [*built, machine.machine(chosen, built)]
    return {each.stack.name: each for each in made}


def test_the_fly_machine_is_rendered_as_reviewed(load: Load) -> None:
    folder = ROOT / "tests" / "fly" / "golden"
    made = _machined(load)
    names = ("Dockerfile", "fly.toml", "supervisord.conf", "services.json")
    rendered = {name: made["machine"].files[name].decode() for name in names}
    rendered |= {"traefik.yml": made["traefik"].files["traefik.yml"].decode()}
    rendered |= {"litestream.yml": made["prefect"].files["litestream.yml"].decode()}
    rendered |= {f"routes-{name}.yml": each.routes.decode() for name, each in made.items() if each.routes}
    rendered["services.json"] = re.sub(r': "[0-9a-f]{16}"', ': "digest"', rendered["services.json"])
    if os.environ.get("PLATFORM_GOLDEN") == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in rendered.items():
            (folder / path).write_text(text)
    assert rendered == {path.name: path.read_text() for path in folder.glob("*")}


CASES = [
    (name, target)
    for name, each in stack.read_all(ROOT).items()
    for target in ("local", "compose")
    if each.runs_on(TRAITS[target].topology)
]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_rendered_as_reviewed(load: Load, stacks: dict[str, stack.Stack], name: str, target: str) -> None:
    folder = ROOT / "stacks" / name / "golden" / target
    rendered = _rendered(load, stacks, name) if target == "local" else _composed(load, name)
    if os.environ.get("PLATFORM_GOLDEN") == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in rendered.items():
            (folder / path).write_text(text)
    golden = {path.name: path.read_text() for path in Path(folder).glob("*")}
    assert rendered == golden
