"""The plan: what changes, in what order, and why. Values only."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from prefect_platform.config import stack
from prefect_platform.planning import bundle, diff, render

from .conftest import ROOT, Load, where

RUNTIME = "r1"
NOTHING = diff.Observed(
    False,
    {},
    {},
    {"gateway": ("GATEWAY_SIGNING_KEYS",)},
    {},
    (diff.Step("install", "runtime", "not there yet"),),
)


def _bundles(load: Load, stacks: dict[str, stack.Stack], **prefect: object) -> list[bundle.Bundle]:
    chosen = load({"prefect": prefect}, root=ROOT)
    return [render.build(each, chosen, where(each.name)) for each in stack.with_needs(stacks, "prefect")]


def _applied(built: list[bundle.Bundle]) -> diff.Observed:
    services = [service for each in built for service in each.services]
    running = {
        each.full_name: diff.Running(
            each.stack, "RUNNING", 1, each.facts(), "v1" if each.needs_secrets else ""
        )
        for each in services
    }
    versions = {each.stack.name: "v1" for each in built}
    return diff.Observed(True, diff.wanted_files(built), running, {}, versions)


def _make(built: list[bundle.Bundle], seen: diff.Observed) -> list[str]:
    return [f"{step.action} {step.subject}: {step.cause}" for step in diff.make(built, seen).steps]


def test_an_empty_machine_gets_everything_in_order(load: Load, stacks: dict[str, stack.Stack]) -> None:
    steps = _make(_bundles(load, stacks), NOTHING)
    assert steps[0] == "install runtime: not there yet"
    assert "generate secret GATEWAY_SIGNING_KEYS: missing" in steps
    assert [step.split(":")[0] for step in steps if step.startswith("start")] == [
        "start supervisord", "start gateway-verifier", "start traefik-listener", "start traefik-gateway", "start prefect-server", "start prefect-worker",
    ]  # fmt: skip


def test_as_declared_is_an_empty_plan(load: Load, stacks: dict[str, stack.Stack]) -> None:
    built = _bundles(load, stacks)
    assert _make(built, _applied(built)) == []
    assert str(diff.Plan(())) == "nothing to do: matches the configuration"


def test_a_setting_restarts_only_what_it_touches_and_says_so(
    load: Load, stacks: dict[str, stack.Stack]
) -> None:
    steps = _make(_bundles(load, stacks, retention_days=7), _applied(_bundles(load, stacks)))
    assert steps[0] == "write prefect/settings.env: changed"
    assert [step for step in steps if not step.startswith("write")] == [
        "restart prefect-server: its settings changed: PREFECT_SERVER_EVENTS_RETENTION_PERIOD, "
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD; its files changed: settings.env"
    ]


def test_the_files_of_a_package_are_one_line_where_they_are_many() -> None:
    many = tuple(diff.Step("write", f"gateway/jwt/{name}.py", "new") for name in "abcde")
    few = tuple(diff.Step("write", f"gateway/other/{name}.py", "new") for name in "ab")
    mine = diff.Step("write", "prefect/settings.env", "changed", "a diff")
    assert str(diff.Plan((*many, *few, mine))).splitlines() == [
        "write     gateway/jwt/                 new (5 files)",
        "write     gateway/other/a.py           new",
        "write     gateway/other/b.py           new",
        "write     prefect/settings.env         changed",
    ]


@pytest.mark.parametrize(
    "subject", ["zombies", "automation platform: crash zombie flow runs", "x" * 27, "x" * 28]
)
@pytest.mark.parametrize("action", ["keep", "initialise", "reconfigure"])
def test_a_long_name_does_not_run_into_its_cause(action: str, subject: str) -> None:
    cause = "crash a run after 90 s"
    assert re.split("  +", str(diff.Step(action, subject, cause))) == [action, subject, cause]


def test_a_restart_says_what_changed_in_a_persons_words(load: Load, stacks: dict[str, stack.Stack]) -> None:
    workers = [{"name": "default", "pool": "default", "limit": 7}]
    steps = _make(_bundles(load, stacks, workers=workers), _applied(_bundles(load, stacks)))
    assert [step for step in steps if step.startswith("restart")] == [
        "restart prefect-worker: its command changed"
    ]


def test_many_settings_that_changed_are_counted_not_listed(
    load: Load, stacks: dict[str, stack.Stack]
) -> None:
    built = _bundles(load, stacks)
    seen = _applied(built)
    server = seen.running["prefect-server"]
    facts = {**(server.facts or {}), "environment": {}}
    running = {**seen.running, "prefect-server": replace(server, facts=facts)}
    (step,) = _make(built, replace(seen, running=running))
    assert re.fullmatch(r"restart prefect-server: its settings changed: (\w+, ){4}\w+ and \d\d more", step)


def test_a_new_route_restarts_nothing(load: Load, stacks: dict[str, stack.Stack]) -> None:
    before = _bundles(load, stacks)
    chosen = load({"gateway": {"routes": [{"name": "a", "path": "/a", "url": "http://a:1"}]}}, root=ROOT)
    after = [render.build(each, chosen, where(each.name)) for each in stack.with_needs(stacks, "prefect")]
    assert _make(after, _applied(before)) == ["write routes/gateway.yml: changed"]


def test_a_removed_worker_is_stopped(load: Load, stacks: dict[str, stack.Stack]) -> None:
    steps = _make(_bundles(load, stacks, workers=[]), _applied(_bundles(load, stacks)))
    assert steps == ["stop prefect-worker: no longer configured"]


def test_a_changed_secret_restarts_those_that_read_it(load: Load, stacks: dict[str, stack.Stack]) -> None:
    built = _bundles(load, stacks)
    seen = replace(_applied(built), secret_versions={"gateway": "v2", "prefect": "v1"})
    assert _make(built, seen) == ["restart gateway-verifier: a secret changed"]


def test_what_gave_up_or_is_unknown_is_restarted(load: Load, stacks: dict[str, stack.Stack]) -> None:
    built = _bundles(load, stacks)
    seen = _applied(built)
    running = dict(seen.running)
    running["prefect-server"] = replace(running["prefect-server"], state="FATAL")
    running["traefik-gateway"] = replace(running["traefik-gateway"], facts=None)
    del running["prefect-worker"]
    assert _make(built, replace(seen, running=running)) == [
        "restart traefik-gateway: its running configuration is unknown",
        "restart prefect-server: had stopped retrying",
        "start prefect-worker: not running",
    ]


def test_a_stack_that_is_stopped_is_not_asked_although_its_migration_is_done(
    load: Load, stacks: dict[str, stack.Stack]
) -> None:
    prefect = _bundles(load, stacks)[-1]
    migrate = replace(prefect.services[0], name="migrate", spec={"restart": "no"})
    built = replace(prefect, services=(*prefect.services, migrate))
    seen = _applied([built])
    stopped = {name: each for name, each in seen.running.items() if name == migrate.full_name}
    assert diff.starts_all(built, diff.make([built], replace(seen, running=stopped)))
    one_more = {name: each for name, each in seen.running.items() if not name.startswith("prefect-worker")}
    assert not diff.starts_all(built, diff.make([built], replace(seen, running=one_more)))
    assert not diff.starts_all(built, diff.make([built], seen))
