"""What is said after a deploy that failed is what Fly runs then. flyctl is a script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefect_platform.errors import ApplyError
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.targets.fly.apply import Applying
from prefect_platform.targets.fly.flyctl import Flyctl, Json
from prefect_platform.targets.fly.releases import Releases

from .conftest import Load

OLD, NEW = "registry.fly.io/app:old", "registry.fly.io/app:new"


def _machine(image: str, state: str) -> Json:
    registry, repository, tag = "registry.fly.io", "app", image.rpartition(":")[2]
    image_ref = {"registry": registry, "repository": repository, "tag": tag}
    return {"id": "1", "state": state, "image_ref": image_ref, "checks": [{"status": "passing"}]}


@pytest.fixture
def after(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> Applying:
    """A deployment whose releases are in tmp_path; its flyctl lists machines.json and fails to deploy."""
    program = tmp_path / "bin" / "flyctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncase $1 in deploy) echo "Error: no capacity"; exit 1 ;; *) cat "{tmp_path}/machines.json" ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "releases" / "old" / "context").mkdir(parents=True)
    (tmp_path / "releases" / "old" / "context" / "fly.toml").touch()
    settings = load({"environments": {"f": {"target": "fly", "fly": {"app": "app"}}}}, env="f")
    fly = Flyctl("app", lambda line: None)
    return Applying(settings, fly, FileStore(tmp_path / "secrets"), Releases(tmp_path))


@pytest.mark.parametrize(
    ("image", "state", "said"),
    [
        (OLD, "started", "the deploy failed; the previous release is running: why"),
        (OLD, "stopped", "the deploy failed; the previous release is deployed, its machine is stopped: why"),
        (NEW, "started", "the deploy failed: why\nthe previous release was not brought back: flyctl deploy"),
    ],
    ids=["runs", "stopped", "not brought back"],
)
def test_a_previous_release_that_does_not_run_is_not_said_to(
    after: Applying, tmp_path: Path, image: str, state: str, said: str
) -> None:
    (tmp_path / "machines.json").write_text(json.dumps([_machine(image, state)]))
    error = after._kept("why", [_machine(OLD, "started")])
    assert error.reason.startswith(said)
    assert "./invoke prefect.logs" in error.hint


ANOTHER = [("volumes create data", f"volumes destroy vol_{number}") for number in range(2)]
FULL = """#!/bin/sh
echo "$1 $2 $3" >>"{0}/calls"
case $1 in
deploy) [ "$(grep -c ^deploy "{0}/calls")" -gt {1} ] || {{ echo "Error: insufficient resources to create new machine with existing volume 'vol_1'"; exit 1; }} ;;
volumes) [ "$2" != create ] || printf '{{"id": "vol_%s"}}' "$(grep -c create "{0}/calls")" ;;
*) echo '[]' ;;
esac
"""


@pytest.mark.parametrize(
    ("full", "empty", "calls"),
    [
        (1, "vol_0", ["deploy", *ANOTHER[0], "deploy"]),
        (9, "vol_0", ["deploy", *ANOTHER[0], "deploy", *ANOTHER[1], "deploy"]),
        (1, "", ["deploy"]),
    ],
    ids=["a new volume", "every host is full", "a volume with data"],
)
def test_a_volume_on_a_full_host_is_replaced_while_nothing_is_on_it(
    after: Applying, tmp_path: Path, full: int, empty: str, calls: list[str]
) -> None:
    (tmp_path / "bin" / "flyctl").write_text(FULL.format(tmp_path, full))
    after.empty = empty
    if full == 1 and empty:
        after._deploy(tmp_path, "tag", [])
    else:
        with pytest.raises(ApplyError, match="insufficient resources") as raised:
            after._deploy(tmp_path, "tag", [])
        assert "fly volumes fork ID" in raised.value.hint
    made = [line.replace("deploy . -a", "deploy") for line in (tmp_path / "calls").read_text().splitlines()]
    assert [line for line in made if line.startswith(("deploy", "volumes"))] == calls
