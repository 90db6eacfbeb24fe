"""What is said after a failure is what was done: a roll-back that did not happen, a database that was not put back, a run-once service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.errors import ApplyError, PlatformError
from prefect_platform.planning import diff
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan, Step
from prefect_platform.targets.compose import observe, resources
from prefect_platform.targets.docker.fake_runner import FakeRunner
from prefect_platform.targets.docker.runner import Result

from .conftest import ROOT, Load
from .rules import ENV, FakeHost, container, stack

BEFORE, NOW = "20250101T000000Z-aaaaaaaa", "20260103T000000Z-cccccccc"
SERVER = {"image": "app:1"}
MIGRATE = {"image": "app:1", "x-once": True}
DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
COMPOSE = "services:\n  migrate:\n    image: app:1\n    labels: {prefect-platform.once: 'yes'}\n"


def _bundle(fake: FakeHost, **services: Mapping[str, Any]) -> Bundle:
    (bundle,) = fake.target.adapt([Bundle(stack("app"), {}, (), b"http: {}\n", {"services": services})])
    return bundle


def _fails(fake: FakeHost, *names: str) -> PlatformError:
    """The error of a setup that starts these services."""
    fake.runner.answer("docker", "run")
    fake.runner.engine.images = {"app:1": {}}
    known: Mapping[str, Mapping[str, Any]] = {"server": SERVER, "migrate": MIGRATE}
    bundle = _bundle(fake, **{name: known[name] for name in names})
    starts = [Step("start", f"app-{name}", "not running") for name in names]
    plan = Plan((*resources.steps(fake.site, [bundle]), *starts))
    with pytest.raises(PlatformError) as failed:
        fake.target.apply(plan, [bundle])
    return failed.value


def _docker_goes_down(fake: FakeHost) -> None:
    fake.runner.answer("flock", "*", "docker", "compose", code=1, error=DOWN)
    fake.runner.answer("sh", "-c", "*docker info*", out="docker=yes\ncompose=2.40.1\n")


class Breaks(FakeRunner):
    """Whose host gets worse, as `then` says, once a compose command has failed."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[], None] = lambda: None

    def run(
        self, words: Sequence[str], stdin: bytes = b"", *, check: bool = True, seconds: float = 600
    ) -> Result:
        try:
            return super().run(words, stdin, check=check, seconds=seconds)
        finally:
            if words[0] == "flock":
                self.then()


@pytest.fixture
def breaking(tmp_path: Path, load: Load) -> tuple[FakeHost, Breaks]:
    """As `fake`."""
    (tmp_path / "host").mkdir()
    values = {"target": "compose", "host": "host", "root": str(tmp_path), "domain": "example.com"}
    runner = Breaks()
    return FakeHost(tmp_path, load({"environments": {ENV: values}}, env=ENV, root=ROOT), runner), runner


@pytest.mark.parametrize("engine", ["answers", "answers no more"])
@pytest.mark.parametrize("services", [("server",), ("migrate", "server")], ids=["starting", "migrating"])
def test_a_roll_back_that_could_not_be_made_is_not_claimed(
    breaking: tuple[FakeHost, Breaks], services: tuple[str, ...], engine: str
) -> None:
    fake, runner = breaking
    fake.release("app", BEFORE)
    _docker_goes_down(fake)
    if engine != "answers":
        runner.then = lambda: setattr(runner.engine, "broken", "gone")
    error = _fails(fake, *services)
    assert isinstance(error, ApplyError)
    assert DOWN in error.reason, "the first cause is told"
    assert "rolled back to" not in error.reason.replace("not rolled back to", "")
    assert (
        f"not rolled back to release {BEFORE}: host: user root cannot reach a Docker engine" in error.reason
    )
    assert error.hint.startswith("start it (systemctl start docker)")
    assert error.hint.endswith("then ./invoke app.setup")
    assert fake.current("app") == BEFORE
    assert [each.result for each in fake.target.history()] == ["failed"]


def test_a_release_that_is_not_healthy_again_is_not_called_rolled_back(fake: FakeHost) -> None:
    fake.release("app", BEFORE)
    fake.runner.answer("docker", "logs", out="no room\n")
    fake.containers(container("app", "server", Status="exited", Running=False, ExitCode=3))
    fake.runner.answer("flock", "*", "docker", "compose", "*/compose.yml", "up", code=1, error="unhealthy")
    error = _fails(fake, "server")
    assert f"release {BEFORE} was started again, but is not healthy: app-server: ended with exit code 3" in (
        error.reason
    )
    assert error.hint == "./invoke app.logs"


def test_a_host_that_is_gone_hides_no_cause(breaking: tuple[FakeHost, Breaks]) -> None:
    fake, runner = breaking
    fake.release("app", BEFORE)
    fake.runner.answer("flock", "*", "docker", "compose", code=1, error="no space left")
    runner.then = lambda: runner.answer("sh", "-c", code=255, error="Connection refused")
    error = _fails(fake, "server")
    assert "no space left" in error.reason
    assert f"not rolled back to release {BEFORE}: host: sh -c" in error.reason
    assert "Connection refused" in error.reason


def test_every_failed_setup_names_a_next_command(fake: FakeHost) -> None:
    fake.runner.answer("flock", "*", "docker", "compose", code=143, error="")
    error = _fails(fake, "migrate", "server")
    assert error.reason.startswith("app-migrate: did not finish: ")
    assert error.hint == "./invoke app.logs --service migrate"


def test_a_restored_database_that_could_not_be_migrated_is_put_back_or_said_not_to_be(
    fake: FakeHost, tmp_path: Path
) -> None:
    fake.release("app", NOW, COMPOSE)
    fake.runner.answer("sh", "-c", "*pg_dump*")
    fake.runner.answer("sh", "-c", "*pg_restore*")
    fake.runner.answer("docker", "exec", "-i", "platform-postgres-lab", "psql")
    fake.runner.answer("flock", "*", "docker", "compose", "*", "--exit-code-from", code=143)
    file = tmp_path / "file.dump"
    file.write_bytes(b"PGDMP")
    with pytest.raises(ApplyError, match="app-migrate: did not finish") as failed:
        fake.target.restore(stack("app", ["data"]), file)
    assert "schema" not in failed.value.reason, "an interrupted migration says nothing of the dump"
    assert failed.value.reason.endswith("the previous database was put back\napp runs again")


def test_a_restore_says_so_when_it_leaves_the_stack_stopped(
    breaking: tuple[FakeHost, Breaks], tmp_path: Path
) -> None:
    fake, runner = breaking
    fake.release("app", NOW, COMPOSE)
    fake.runner.answer("sh", "-c", "*pg_dump*")
    fake.runner.answer("sh", "-c", "*pg_restore*")
    fake.runner.answer("docker", "exec", "-i", "platform-postgres-lab", "psql")
    file = tmp_path / "file.dump"
    file.write_bytes(b"PGDMP")

    def goes_down() -> None:
        _docker_goes_down(fake)
        fake.runner.answer("sh", "-c", "*pg_*", code=1, error=DOWN)
        fake.runner.answer("docker", "exec", code=1, error=DOWN)
        runner.engine.broken = "gone"

    runner.then = goes_down
    with pytest.raises(ApplyError) as failed:
        fake.target.restore(stack("app", ["data"]), file)
    assert DOWN in failed.value.reason
    assert "put back" not in failed.value.reason
    assert "app is stopped: " in failed.value.reason
    assert failed.value.hint.endswith("./invoke app.setup --env lab starts it")


def test_a_rollback_by_hand_says_what_it_has_done_when_it_cannot_end(fake: FakeHost) -> None:
    for each in (BEFORE, NOW):
        fake.release("app", each)
    fake.history(("app.setup", BEFORE, "good"), ("app.setup", NOW, "good"))
    _docker_goes_down(fake)
    with pytest.raises(ApplyError) as failed:
        fake.target.roll_back(stack("app"), "", False)
    assert f"not rolled back: release {NOW} is still the current one" in failed.value.reason
    assert failed.value.hint.startswith("start it (systemctl start docker)")
    last = fake.target.history()[-1]
    assert (last.what, last.result) == ("app.rollback", "failed")


# -- run-once services
def _interrupted(**state: Any) -> dict[str, Any]:
    ended: dict[str, Any] = {"Status": "exited", "Running": False, "ExitCode": 143, "Pid": 0}
    found = container("app", "migrate", "", ENV, **(ended | state))
    found["Config"]["Labels"]["prefect-platform.once"] = "yes"
    return found


KILLED = pytest.mark.parametrize(
    "state", [{}, {"ExitCode": 137}, {"Status": "created", "ExitCode": 0}], ids=["term", "kill", "created"]
)


@KILLED
def test_a_run_once_service_that_was_interrupted_is_judged_by_those_that_need_it(
    fake: FakeHost, state: dict[str, Any]
) -> None:
    """Those of its stack start after it: where they are healthy, its work is done."""
    well = {"Status": "healthy"}
    fake.containers(
        _interrupted(**state), container("app", "server", Health=well), container("app", "worker")
    )
    found = {each.service: each for each in fake.target.processes()}
    assert found["migrate"].state == "DONE"
    assert "the services that need it run" in found["migrate"].detail
    assert "the next setup runs it again" in found["migrate"].detail


@KILLED
@pytest.mark.parametrize(
    "server",
    [
        {"Status": "exited", "Running": False, "ExitCode": 0},
        {"Health": {"Status": "unhealthy"}},
        {"Health": {"Status": "starting"}},
    ],
    ids=["stopped", "unhealthy", "starting"],
)
def test_it_is_red_while_they_are_not_healthy(
    fake: FakeHost, state: dict[str, Any], server: dict[str, Any]
) -> None:
    other = container("other", "server", Health={"Status": "healthy"})
    fake.containers(_interrupted(**state), container("app", "server", "", ENV, **server), other)
    found = {each.name: each for each in fake.target.processes()}
    assert found["app-migrate"].state not in ("DONE", "RUNNING")


def test_one_that_failed_by_itself_is_red_whatever_runs(fake: FakeHost) -> None:
    fake.containers(_interrupted(ExitCode=1), container("app", "server", Health={"Status": "healthy"}))
    found = {each.service: each for each in fake.target.processes()}
    assert found["migrate"].state == "EXITED"


@KILLED
def test_the_plan_runs_it_again_and_says_why(fake: FakeHost, state: dict[str, Any]) -> None:
    fake.runner.engine.images = {"app:1": {}}
    bundle = replace(_bundle(fake, server=SERVER, migrate=MIGRATE), stack=stack("app"))
    fake.containers(_interrupted(**state))
    plan = diff.make([bundle], observe.observe(fake.site, [bundle]))
    assert Step("start", "app-migrate", "its last run did not finish") in plan.steps
