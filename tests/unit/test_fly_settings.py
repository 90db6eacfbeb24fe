"""One machine on Fly is the local platform in another package: the same templates, and no difference that docs/fly.md does not tell."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from prefect_platform.config import stack
from prefect_platform.planning import bundle, render
from prefect_platform.targets.fly import render as machine
from prefect_platform_lab.standins import flyctl

from .conftest import ROOT, TRAITS, Load, where

PLACES = ("python", "traefik", "entrypoint", "template", "bundle", "data", "routes", "secrets")
TOLD = {
    "sourceCriterion: {requestHeaderName: Fly-Client-IP}": "`Fly-Client-IP` counts for rate limits",
    "Fly-Client-IP: keep": "`Fly-Client-IP` counts for rate limits and the log",
    "forwardedHeaders: {trustedIPs:": "behind Fly's edge",
    'address: "0.0.0.0:8080"': "| the gateway listens on | 127.0.0.1 | 0.0.0.0",
    "prefect-ready:": "| open path besides `/ping` | – | `/ready`",
    "ready-path:": "`/ready`, for the health check",
    "--drain-seconds 120": "a worker's stop waits for its runs | 300 s, or its `drain_seconds` | 120 s",
    "stop: TERM, 195 s": "Fly ends a machine after 300 s, all processes together",
    "PREFECT_SERVER_UI_STATIC_DIRECTORY=/platform/ui": "| Prefect's UI files | data folder | in the image |",
}
"""A part of each line that is the machine's own, and what docs/fly.md says of it."""


def _differences(load: Load) -> Iterator[str]:
    shared = {"gateway": {"public_url": "https://my-app.fly.dev"}}
    local = load(shared, root=ROOT)
    fly = load({**shared, "target": "fly", "fly": {"app": "my-app"}}, root=ROOT)
    there = stack.read_all(ROOT)
    for name, each in stack.for_target(there, TRAITS["local"]).items():
        ours = render.build(each, local, where(name))
        theirs = render.build(stack.for_target(there, TRAITS["fly"])[name], fly, machine.where(name))
        for file in sorted({*ours.files, *theirs.files, "routes.yml"}):
            here = _moved(name, (ours.routes if file == "routes.yml" else ours.files.get(file)) or b"")
            gone = (theirs.routes if file == "routes.yml" else theirs.files.get(file)) or b""
            # Code that the official image lacks is no setting.
            if not file.endswith((".py", ".conf")):
                yield from difflib.unified_diff(here, gone.decode().splitlines(), lineterm="", n=0)
        assert [service.full_name for service in ours.services if service.full_name != ONLY_LOCAL] == [
            service.full_name for service in theirs.services
        ]
        mine = {service.name: service for service in ours.services}
        for other in theirs.services:
            here = _moved(name, "\n".join(_process(mine[other.name])).encode())
            yield from difflib.unified_diff(here, _process(other), lineterm="", n=0)


ONLY_LOCAL = "traefik-listener"
"""Keeps clients waiting while Traefik restarts; on Fly only the whole machine does, and its supervisor holds them."""


def _process(service: bundle.Service) -> list[str]:
    environment = [f"{key}={value}" for key, value in service.environment.items()]
    return [" ".join(service.argv), *environment, f"stop: {service.stop_signal}, {service.stop_seconds} s"]


def _moved(name: str, body: bytes) -> list[str]:
    """A local file with the machine's places."""
    text = body.decode()
    for place in PLACES:
        text = text.replace(getattr(where(name), place), getattr(machine.where(name), place))
    return text.splitlines()


@pytest.mark.parametrize(
    "fly",
    [
        {},
        {"auto_stop": "suspend", "memory": "512mb"},
        {"auto_stop": "stop", "cpus": 4, "memory": "8gb", "volume_gb": 20},
        {"private": True},
    ],
)
def test_its_fly_toml_is_one_that_flyctl_reads(load: Load, fly: dict[str, Any]) -> None:
    made = {"target": "fly", "fly": {"app": "my-app", **fly}, "prefect": {"workers": []}}
    text = machine.machine(load(made, root=ROOT), []).files["fly.toml"].decode()
    found = tomllib.loads(text)
    schema = yaml.safe_load(flyctl.SCHEMA.read_text())
    jsonschema.validate(found, schema)
    if fly.get("private"):
        assert "http_service" not in found
        return
    # Fly's own rule would freeze runs.
    assert found["http_service"]["auto_stop_machines"] == "off"
    assert found["http_service"]["min_machines_running"] == (0 if fly.get("auto_stop") else 1)
    with pytest.raises(jsonschema.ValidationError, match="auto_stop"):
        jsonschema.validate({**found, "http_service": {**found["http_service"], "auto_stop": True}}, schema)


def test_the_page_s_example_becomes_a_machine(load: Load) -> None:
    """With what it does not set, as a new user has it."""
    page = (ROOT / "docs" / "fly.md").read_text()
    example = yaml.safe_load(
        page.partition("from the same templates, packed into an image.\n")[2].partition("\n\n    ./")[0]
    )
    fly = load(example["platform"]["environments"]["fly"], root=ROOT)
    there = stack.for_target(stack.read_all(ROOT), TRAITS["fly"])
    bundles = [render.build(each, fly, machine.where(name)) for name, each in there.items()]
    found = tomllib.loads(machine.machine(fly, bundles).files["fly.toml"].decode())
    assert found["app"] == example["platform"]["environments"]["fly"]["fly"]["app"]
    assert found["kill_timeout"] <= 300


def test_the_machine_differs_from_local_only_where_the_docs_say(load: Load) -> None:
    docs = " ".join((ROOT / "docs" / "fly.md").read_text().split())
    lines = [line[1:].strip() for line in _differences(load) if line.startswith("+") and line[:3] != "+++"]
    settings = [line for line in lines if not line.startswith("#")]
    assert settings
    untold = [line for line in settings if not any(part in line for part in TOLD)]
    assert untold == []
    assert [part for part in TOLD if not any(part in line for line in settings)] == []
    assert [said for said in TOLD.values() if said not in docs] == []
