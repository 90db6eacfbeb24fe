"""Bringing a stack to its host: networks and volumes once, a dump first, run-once services before the others: whole command lines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.errors import ApplyError
from prefect_platform.planning import diff
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan, Step
from prefect_platform.targets.compose import apply, observe, resources, retention
from prefect_platform.targets.compose.compose_file import DIGEST

from .rules import FakeHost, container, stack

BEFORE = "20250101T000000Z-aaaaaaaa"
APP = stack("app", databases=["app"])
SERVER = {"image": "app:1", "networks": ["data", "edge"], "volumes": ["data:/data"], "x-connections": 5}
MIGRATE = {"image": "app:1", "x-once": True}


def _bundle(fake: FakeHost, *, owner: str = "7:7", **services: Mapping[str, Any]) -> Bundle:
    compose = {"services": services, "volumes": {"data": {"x-owner": owner}}}
    (bundle,) = fake.target.adapt([Bundle(replace(APP, databases=()), {}, (), b"http: {}\n", compose)])
    return bundle


def _plan(*names: str) -> Plan:
    return Plan(tuple(Step("start", f"app-{name}", "not running") for name in names))


def _with_database(bundle: Bundle) -> Bundle:
    return replace(bundle, stack=APP)


def _with_dumps(fake: FakeHost, bundle: Bundle, before: str, plan: Plan) -> Plan:
    """As `observe` completes it; `before` is the current release's Compose file."""
    dumps = retention.dumps(fake.site, [bundle], {"app/compose.yml": before.encode()})
    return Plan((*dumps, *plan.steps))


def _compose(fake: FakeHost, release: str, words: str) -> str:
    folder = f"{fake.root}/lab/app"
    return f"flock {folder}/busy docker compose -p platform-lab-app -f {folder}/releases/{release}/compose.yml {words}"


def _apply(fake: FakeHost, bundle: Bundle, plan: Plan) -> str:
    """The new release's id."""
    fake.runner.engine.images = {"app:1": {}, "app:2": {}}
    _apply_with_resources(fake, bundle, plan)
    return fake.current("app")


def _apply_with_resources(fake: FakeHost, bundle: Bundle, plan: Plan) -> None:
    """The plan as `observe` completes it: what the host lacks comes first."""
    fake.target.apply(Plan((*resources.steps(fake.site, [bundle]), *plan.steps)), [bundle])


def test_networks_and_volumes_are_made_once(fake: FakeHost) -> None:
    fake.runner.answer("docker", "run")
    bundle = _bundle(fake, server=SERVER)
    release = _apply(fake, bundle, _plan("server"))
    label = "--label prefect-platform.env=lab"
    up = "up -d --remove-orphans --wait --wait-timeout 240"
    assert fake.docker() == [
        f"docker network create --internal {label} platform-data-lab",
        f"docker network create --label prefect-platform.edge=yes {label} platform-edge-lab",
        f"docker volume create {label} --label prefect-platform.stack=app platform-app-data-lab",
        "docker run --rm --network none --cap-drop ALL --cap-add CHOWN -u 0:0 --entrypoint chown"
        " -v platform-app-data-lab:/volume app:1 7:7 /volume",
        _compose(fake, release, up),
    ]
    fake.runner.calls.clear()
    fake.runner.engine.networks = {"platform-data-lab": {}, "platform-edge-lab": {}}
    assert fake.docker() == []
    release = _apply(fake, bundle, _plan("server"))
    assert fake.docker() == [_compose(fake, release, up)]


def test_what_left_a_network_joins_it_again(fake: FakeHost) -> None:
    """The network of an environment that was removed and is set up again: to Compose nothing has changed."""
    fake.runner.answer("docker", "run")
    bundle = _bundle(fake, server={**SERVER, "volumes": []})
    (service,) = bundle.services
    there = container("app", "server")
    there["Config"]["Labels"][DIGEST] = service.digest()
    fake.containers(there)
    fake.runner.engine.images = {"app:1": {}}
    fake.runner.engine.networks = {"platform-data-lab": {}, "platform-edge-lab": {}}
    there["NetworkSettings"] = {"Networks": {"platform-data-lab": {}}}
    steps = resources.steps(fake.site, [bundle])
    assert [str(step).split() for step in steps if step.action == "join"] == [
        ["join", "network", "platform-edge-lab", "platform-app-server-lab", "is", "not", "in", "it"]
    ]
    resources.create(fake.site, bundle, Plan(steps))
    assert "docker network connect platform-edge-lab platform-app-server-lab" in fake.docker()
    there["NetworkSettings"] = {"Networks": {"platform-data-lab": {}, "platform-edge-lab": {}}}
    assert not [step for step in resources.steps(fake.site, [bundle]) if step.action == "join"]


def test_the_proxy_joins_every_environment_while_it_runs(fake: FakeHost) -> None:
    """A new environment is no reason to replace it; a new container of it has left the networks of all."""
    proxy = stack("traefik", scope="host")
    compose = {"services": {"gateway": {"image": "app:1", "networks": ["proxy"]}}}
    (bundle,) = fake.target.adapt([Bundle(proxy, {}, (), None, compose)])
    (service,) = bundle.services
    engine = fake.runner.engine
    engine.images = {"app:1": {}}
    edge = {"prefect-platform.edge": "yes"}
    engine.networks = {"platform-proxy": {}, "platform-edge-lab": edge, "platform-edge-other": edge}

    def joined() -> list[str]:
        found = resources.steps(fake.site, [bundle])
        return [step.subject.removeprefix("network ") for step in found if step.action == "join"]

    assert joined() == ["platform-edge-lab", "platform-edge-other"], "not there yet"
    there = container("traefik", "gateway", "platform-traefik", env="host")
    there["NetworkSettings"] = {"Networks": {"platform-proxy": {}, "platform-edge-other": {}}}
    fake.containers(there)
    assert joined() == ["platform-edge-lab", "platform-edge-other"], "another is about to replace it"
    there["Config"]["Labels"][DIGEST] = service.digest()
    assert joined() == ["platform-edge-lab"]
    fake.site.up(proxy, BEFORE, 10)
    assert fake.docker()[-1] == "docker network connect platform-edge-lab platform-traefik"
    there["NetworkSettings"]["Networks"]["platform-edge-lab"] = {}
    assert joined() == []


def test_a_network_s_kind_is_no_part_of_its_name(fake: FakeHost) -> None:
    """The environment `x-data` has an edge as well, and that must lead outside."""
    fake.runner.answer("docker", "run")
    fake.target.site.settings = replace(fake.target.site.settings, env="x-data")
    bundle = _bundle(fake, server=SERVER)
    (service,) = bundle.services
    spec = {**service.spec, "networks": ["platform-edge-x-data", "platform-data-x-data"]}
    _apply_with_resources(fake, replace(bundle, services=(replace(service, spec=spec),)), _plan("server"))
    edge = next(line for line in fake.docker() if line.endswith("platform-edge-x-data"))
    assert "--internal" not in edge
    assert "--label prefect-platform.edge=yes" in edge


def test_missing_images_are_pulled_and_no_others(fake: FakeHost) -> None:
    fake.runner.answer("docker", "run")
    fake.runner.engine.images = {"app:1": {}}
    bundle = _bundle(fake, server=SERVER, worker={**SERVER, "image": "other:1"})
    steps = resources.steps(fake.site, [bundle])
    assert [step.subject for step in steps if step.action == "pull"] == ["image other:1"]
    resources.create(fake.site, bundle, Plan(steps))
    assert [line for line in fake.docker() if " pull " in line] == ["docker pull -q other:1"]


def test_nothing_is_made_that_the_plan_does_not_list(fake: FakeHost) -> None:
    fake.runner.engine.images = {"app:1": {}}
    resources.create(fake.site, _bundle(fake, server=SERVER), _plan("server"))
    assert fake.docker() == []


def test_run_once_services_go_first_and_only_when_they_changed(fake: FakeHost) -> None:
    fake.runner.answer("docker", "run")
    bundle = _bundle(fake, server=SERVER, migrate=MIGRATE)
    release = _apply(fake, bundle, _plan("server", "migrate"))
    once = "up --no-deps --exit-code-from migrate --abort-on-container-exit migrate"
    up = "up -d --remove-orphans --wait --wait-timeout 240"
    assert fake.runner.lines("flock") == [_compose(fake, release, words) for words in (once, up)]
    fake.runner.calls.clear()
    release = _apply(fake, bundle, _plan("server"))
    assert fake.runner.lines("flock") == [_compose(fake, release, up)]


@pytest.mark.parametrize(
    ("before", "dumped"),
    [("app:1", False), ("app:1@sha256:1", False), ("app:0", True)],
)
def test_a_stack_that_migrates_itself_is_dumped_before_another_version(
    fake: FakeHost, before: str, dumped: bool
) -> None:
    text = f"services:\n  server:\n    image: {before}\n"
    fake.release("app", BEFORE, text)
    fake.runner.answer("sh", "-c", "*pg_dump*")
    bundle = _with_database(_bundle(fake, server=SERVER))
    plan = _with_dumps(fake, bundle, text, _plan("server"))
    assert plan.of("create") == ([f"dump app-{BEFORE}.dump"] if dumped else [])
    apply.bring_up(fake.site, bundle, "new", BEFORE, plan)
    dumps = [call.words[4:] for call in fake.runner.calls if "pg_dump" in "".join(call.words)]
    folder = f"{fake.root}/lab/postgres/dumps"
    assert dumps == ([(folder, "platform-postgres-lab", "app", BEFORE, "5")] if dumped else [])


def test_a_first_release_is_not_preceded_by_a_dump(fake: FakeHost) -> None:
    bundle = _with_database(_bundle(fake, server=SERVER, migrate=MIGRATE))
    assert retention.dumps(fake.site, [bundle], {}) == ()


def test_the_plan_lists_the_dumps_that_a_new_one_replaces(fake: FakeHost) -> None:
    fake.release("app", BEFORE)
    folder = fake.root / "lab/postgres/dumps"
    folder.mkdir(parents=True)
    names = [f"app-2024010{number}T000000Z-a.dump" for number in range(6)]
    for age, name in enumerate([*reversed(names), "other-2024.dump", f"app-{BEFORE}.dump"]):
        (folder / name).touch()
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    bundle = _with_database(_bundle(fake, server=SERVER, migrate=MIGRATE))
    steps = retention.dumps(fake.site, [bundle], {"app/compose.yml": b""})
    # An interrupted setup made the one of this release already: it counts once.
    assert [(step.action, step.subject) for step in steps] == [
        ("create", f"dump app-{BEFORE}.dump"),
        ("delete", f"dump {names[1]}"),
        ("delete", f"dump {names[0]}"),
    ]


def test_a_plan_with_work_names_what_is_deleted_and_one_without_does_not(fake: FakeHost) -> None:
    for number in range(11):
        fake.release("app", f"20250101T0000{number:02}Z-a", "services:\n  one:\n    image: app:0\n")
    fake.runner.engine.images = {"app:1": {}}
    bundle = _bundle(fake, server=SERVER)
    plan = diff.make([bundle], observe.observe(fake.site, [bundle]))
    gone = [f"20250101T0000{number:02}Z-a" for number in range(2)]
    assert plan.of("delete") == [f"release app/{each}" for each in gone]
    retention.delete(fake.site, bundle.stack, plan)
    assert len(list((fake.root / "lab/app/releases").iterdir())) == 9
    assert diff.make([], diff.Observed(True, {}, {}, {}, {}, later=plan.steps)).steps == ()


def test_a_migration_to_another_version_is_preceded_by_a_dump_and_one_for_another_setting_is_not(
    fake: FakeHost,
) -> None:
    fake.release("app", BEFORE)
    fake.runner.answer("sh", "-c", "*pg_dump*")
    bundle = _with_database(_bundle(fake, server=SERVER, migrate=MIGRATE))
    now = bundle.files["compose.yml"].decode()
    for before, done in (
        (now.replace("app:1", "app:0"), [(True, False), (False, True)]),
        (now, [(False, True)]),
    ):
        plan = _with_dumps(fake, bundle, before, _plan("migrate"))
        apply.bring_up(fake.site, bundle, "new", BEFORE, plan)
        seen = [("pg_dump" in call.line, " migrate" in call.line) for call in fake.runner.calls]
        assert [each for each in seen if any(each)] == done
        fake.runner.calls.clear()


def test_what_is_unhealthy_is_restarted_by_name(fake: FakeHost) -> None:
    ill = Plan((Step("restart", "app-server", "unhealthy"),))
    apply.bring_up(fake.site, _bundle(fake, server=SERVER), "new", BEFORE, ill)
    assert fake.docker()[0] == "docker restart platform-app-server-lab"


def test_only_a_stack_that_mounts_its_private_folder_gets_its_files_and_the_plan_says_so(
    fake: FakeHost,
) -> None:
    file, folder = fake.root / "ca.pem", f"{fake.root}/host/app/private"
    fake.site.settings.values["traefik"]["acme_ca_cert"] = str(file)
    fake.runner.engine.images = {"app:1": {}}

    def steps(*volumes: str) -> list[tuple[str, str]]:
        bundle = _bundle(fake, server={**SERVER, "volumes": list(volumes)})
        bundle = replace(bundle, stack=replace(bundle.stack, role="proxy"))
        plan = Plan(resources.steps(fake.site, [bundle]))
        resources.lay_private(fake.site, bundle, Plan(()))
        assert not any("umask 077 && tar" in str(call.words) for call in fake.runner.calls)
        resources.lay_private(fake.site, bundle, plan)
        laid = [call.words[4] for call in fake.runner.calls if "umask 077 && tar" in str(call.words)]
        found = [(step.subject, step.cause) for step in plan.steps if step.action == "write"]
        assert laid == [folder] * len(found)
        fake.runner.calls.clear()
        return found

    fake.runner.answer("sh", "-c", "*umask 077 && tar*")
    file.write_text("one")
    assert steps() == []
    ((subject, cause),) = steps(f"{folder}:/private:ro")
    assert cause == "new"
    laid = Path(folder) / subject.removeprefix("private file ")
    laid.parent.mkdir(parents=True)
    laid.write_text("one")
    assert steps(f"{folder}:/private:ro") == []
    laid.write_text("somebody's")
    assert steps(f"{folder}:/private:ro") == [(subject, "changed")]


def test_a_failed_setup_goes_back_and_says_why(fake: FakeHost) -> None:
    fake.runner.answer("docker", "run")
    fake.runner.answer("docker", "logs", out="Traceback: no such column\n")
    fake.release("app", BEFORE)
    fake.containers(container("app", "server", Status="exited", Running=False, ExitCode=3))
    fake.runner.answer("flock", "*", "docker", "compose", "*/compose.yml", "up", code=1, error="unhealthy")
    fake.runner.answer("flock", "*", f"*/{BEFORE}/*", "up", code=0)
    with pytest.raises(ApplyError) as failed:
        _apply(fake, _bundle(fake, server=SERVER), _plan("server"))
    assert "app-server: ended with exit code 3\n    Traceback: no such column" in failed.value.reason
    assert failed.value.reason.endswith(f"rolled back to release {BEFORE}")
    assert fake.docker()[-1] == _compose(fake, BEFORE, "up -d --remove-orphans --wait --wait-timeout 120")
    assert fake.current("app") == BEFORE
    last = fake.target.history()[-1]
    assert (last.what, last.result) == ("app.setup", "failed")


def test_a_failed_first_setup_has_nothing_to_go_back_to(fake: FakeHost) -> None:
    fake.runner.answer("docker", "run")
    fake.runner.answer("flock", "*", "docker", "compose", code=1, error="no space left")
    with pytest.raises(ApplyError, match=r"did not become healthy: .*no space left"):
        _apply(fake, _bundle(fake, server=SERVER), _plan("server"))
    assert len(fake.runner.lines("flock")) == 1
    assert not (fake.root / "lab/app/current").exists()
