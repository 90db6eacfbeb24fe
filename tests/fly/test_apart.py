"""docs/fly.md, "The gateway in an app of its own": the steps of the page, after which people and machines come in where they always did."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab.conftest import Docker
from tests.lab.vps import invoke

from .app import Fly
from .conftest import ROOT, Launch

pytestmark = pytest.mark.timeout(600)
APP, BEHIND = "tests-gate", "tests-behind"


@pytest.fixture(scope="module")
def fly(launch: Launch) -> Fly:
    made = launch(APP, memory="512mb")
    made.settings["prefect"] = {"workers": []}
    made.write()
    made.invoke("prefect.setup")
    return made


def _at(fly: Fly, env: str, *words: str, code: int | None = 0) -> Any:
    return invoke(fly.root, env, words, code, fly.environ)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"prefect": {"upstream": "http://x.internal:4200"}},
            "with it, workers must run elsewhere and connect through the gateway",
        ),
        (
            {"fly": {"app": APP, "private": True}},
            "platform.fly.private: with it, workers must run elsewhere and connect through the gateway",
        ),
        (
            {
                "fly": {"app": APP, "private": True},
                "prefect": {"upstream": "http://x.internal:4200", "workers": []},
            },
            "an app is either the gateway or behind one",
        ),
        (
            {"fly": {"app": APP, "private": True, "auto_stop": "stop"}, "prefect": {"workers": []}},
            "do not wake a machine",
        ),
        ({"target": "local", "prefect": {"upstream": "http://x:4200", "workers": []}}, "only target fly"),
    ],
)
def test_what_cannot_be_together_is_said(fly: Fly, changes: dict[str, Any], said: str) -> None:
    kept = dict(fly.settings)
    fly.settings.update({"prefect": {}, **changes})
    fly.write()
    refused = fly.invoke("prefect.plan", code=2)
    fly.settings.clear()
    fly.settings.update(kept)
    fly.write()
    assert said in refused.stderr


def test_the_gateway_goes_on_alone(fly: Fly, docker: Docker, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "fly.md").read_text().partition("## Gateway and Prefect in separate apps")[2]
    steps = re.findall(r"^    (.+?)(?: {2,}#.*)?$", page.partition("\n## ")[0], flags=re.M)
    assert [step.split()[0:2] for step in steps if step.startswith("./invoke")] == [
        ["./invoke", "prefect.backup"],
        ["./invoke", "prefect.setup"],
        ["./invoke", "prefect.restore"],
        ["./invoke", "prefect.setup"],
    ]
    with fly.client() as api:
        api.post("/flows/", json={"name": "before-it-was-apart"}).raise_for_status()
        headers = dict(api.headers)
    file = fly.invoke("prefect.backup", "--to", str(tmp_path)).stdout.strip()

    fly.others["fly-prefect"] = {
        "target": "fly",
        "fly": {"app": BEHIND, "memory": "512mb", "private": True},
        "prefect": {"workers": []},
    }
    fly.write()
    secrets = fly.root / ".state" / "fly-prefect" / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    shutil.copy(fly.state / "secrets" / "prefect.json", secrets)
    done = _at(fly, "fly-prefect", "prefect.setup")
    assert "set prefect.upstream in the environment of the gateway" in done.stderr
    assert docker("port", f"fly-{BEHIND}") == "", "nothing of it is public"
    programs = docker("exec", f"fly-{BEHIND}", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "server.py" in programs
    assert "traefik" not in programs
    _at(fly, "fly-prefect", "prefect.restore", "--file", file, "--yes")
    assert _at(fly, "fly-prefect", "prefect.status").returncode == 0

    fly.settings["prefect"] = {"workers": [], "upstream": f"http://{BEHIND}.internal:4200"}
    fly.write()
    fly.invoke("prefect.setup")
    assert fly.invoke("prefect.status").returncode == 0
    programs = docker("exec", fly.container, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "traefik" in programs
    assert "server.py" not in programs
    # The token from before, the data from before, the same doors.
    path = f"{fly.url}/prefect/api/flows/name/before-it-was-apart"
    assert httpx.get(path, headers={"Authorization": headers["authorization"]}).status_code == 200
    assert httpx.get(path).status_code == 401
    link = fly.invoke("gateway.login-url").stdout.strip()
    with httpx.Client(follow_redirects=True) as browser:
        assert "/prefect/" in str(browser.get(link).url)
        assert browser.get(path).status_code == 200
    # What Prefect is told to have comes from the gateway's environment.
    assert "default" in fly.invoke("prefect.pools").stdout
