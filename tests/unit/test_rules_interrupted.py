"""A setup that is interrupted before or after any one of its commands on the host, and run again, ends as one that nobody interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest

from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan, Step
from prefect_platform.targets.compose import resources
from prefect_platform.targets.docker.fake_runner import FakeRunner
from prefect_platform.targets.docker.runner import Result

from .conftest import ROOT, Load
from .rules import ENV, FakeHost, stack

Make = Callable[[int, bool], tuple["FakeHost", "Cut"]]
BEFORE = "20250101T000000Z-aaaaaaaa"
ROUTES = b"http: {}\n"
SERVER = {"image": "app:1", "networks": ["data", "edge"], "volumes": ["data:/data"], "x-reads": ["app.yml"]}
MIGRATE = {"image": "app:1", "x-once": True}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, as the test's own."""


class Cut(FakeRunner):
    """Interrupted at command number `at`, before it or once it is done; remembers which networks there are."""

    def __init__(self, at: int, done: bool) -> None:
        super().__init__()
        self.at, self.done = at, done
        self.ran: list[str] = []
        self.ended: list[str] = []

    def run(
        self, words: Sequence[str], stdin: bytes = b"", *, check: bool = True, seconds: float = 600
    ) -> Result:
        number = len(self.ran)
        self.ran.append(" ".join(words))
        if number == self.at and not self.done:
            self.at = -1
            raise Interrupted
        result = super().run(words, stdin, check=check, seconds=seconds)
        self.ended.append(" ".join(words))
        if tuple(words[:3]) == ("docker", "network", "create"):
            # The engine says no to a second one; a volume that is there it leaves alone.
            assert words[-1] not in self.engine.networks
            self.engine.networks[words[-1]] = {}
        if number == self.at:
            self.at = -1
            raise Interrupted
        return result


@pytest.fixture
def host(tmp_path: Path, load: Load) -> Make:
    """Makes hosts that have an earlier release; the setup of each is cut at another command."""

    def make(at: int, done: bool) -> tuple[FakeHost, Cut]:
        root = tmp_path / "host"  # what a release holds has the folder's name in it
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        values = {"target": "compose", "host": "host", "root": str(root), "domain": "example.com"}
        settings = load({"environments": {ENV: values}}, env=ENV, root=ROOT)
        runner = Cut(at, done)
        fake = FakeHost(root, settings, runner)
        fake.runner.answer("docker", "run")
        fake.runner.engine.images = {"app:1": {}}
        fake.release("app", BEFORE)
        return fake, runner

    return make


def _bundle(fake: FakeHost) -> Bundle:
    compose = {"services": {"server": SERVER, "migrate": MIGRATE}, "volumes": {"data": {"x-owner": "7:7"}}}
    (bundle,) = fake.target.adapt([Bundle(stack("app"), {"app.yml": b"a: 1\n"}, (), ROUTES, compose)])
    return bundle


def _set_up(fake: FakeHost) -> None:
    """As a setup does: what is missing is looked for first."""
    bundle = _bundle(fake)
    steps = [Step("start", f"app-{name}", "changed") for name in ("migrate", "server")]
    fake.target.apply(Plan((*resources.steps(fake.site, [bundle]), *steps)), [bundle])


def _there(fake: FakeHost) -> dict[str, bytes]:
    """Every file of the host; a release's time and the history's lines are those of the run."""
    current = fake.current("app")
    found = {}
    for path in (each for each in sorted(fake.root.rglob("*")) if each.is_file()):
        name = str(path.relative_to(fake.root)).replace(current, "CURRENT")
        found[name] = path.read_bytes().replace(current.encode(), b"CURRENT")
    return found


def _docker(fake: FakeHost, lines: list[str]) -> set[str]:
    """What was done to the engine, whatever the release is called."""
    programs = ("docker", "flock")
    return {line.replace(fake.current("app"), "CURRENT") for line in lines if line.startswith(programs)}


def _last(fake: FakeHost) -> str:
    entry = fake.target.history()[-1]
    return f"{entry.what} {entry.result}"


def test_interrupted_at_any_command_the_next_setup_ends_as_an_uninterrupted_one(
    host: Make,
) -> None:
    whole, runner = host(-1, True)
    _set_up(whole)
    commands, wanted = runner.ran, _there(whole)
    assert len(commands) > 12
    everything = _docker(whole, runner.ended)
    for at, done in product(range(len(commands)), (False, True)):
        fake, cut = host(at, done)
        where = f"{'after' if done else 'before'} {commands[at]}"
        with pytest.raises(Interrupted):
            _set_up(fake)
        assert (fake.root / ENV / "app" / "current" / "compose.yml").exists(), (
            f"{where}: the current release is not there"
        )
        _set_up(fake)
        found = _there(fake)
        assert _last(fake) == "app.setup good", where
        assert found.keys() >= wanted.keys(), where
        for name in wanted.keys() - {f"{ENV}/history.jsonl"}:
            assert found[name] == wanted[name], where
        assert not [name for name in found if name.endswith((".tmp", ".part"))], where
        assert _docker(fake, cut.ended) >= everything, where
        ups = [line for line in fake.runner.lines("flock") if " up -d " in line]
        assert f"/releases/{fake.current('app')}/" in ups[-1], where
