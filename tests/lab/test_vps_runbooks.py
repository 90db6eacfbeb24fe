"""docs/runbooks.md, section by section: the trouble is made, then the very commands of the page run, and the platform is well again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from prefect_platform_lab import LabHost

from .conftest import ROOT, Docker, call
from .vps import Vps

pytestmark = pytest.mark.timeout(900)

TROUBLES = {
    "Health check failed": (("stop", "platform-prefect-server-lab"), "prefect-server"),
    "Database connection": (("stop", "platform-postgres-lab"), "postgres-postgres"),
    "Worker not picking up flows": (
        ("stop", "platform-prefect-worker-lab"),
        "prefect-worker",
    ),
    "Services stuck": (("pause", "platform-prefect-services-lab"), "prefect-services"),
    "Deferred task runs wait": (None, ""),
    "Runs that nobody executes": (None, ""),
    "Vault sealed or away": (("stop", "platform-vault"), "vault-vault"),
    "The host alone": (None, ""),
}


def _sections() -> dict[str, list[str]]:
    """Heading → the commands below it, as they stand."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^## ", (ROOT / "docs" / "runbooks.md").read_text(), flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        found[title] = re.findall(r"^    (.+)$", body, flags=re.M)
    return found


def test_every_section_with_commands_is_followed() -> None:
    assert {title for title, commands in _sections().items() if commands} == set(TROUBLES)


def _run(vps: Vps, host: LabHost, line: str, code: int | None) -> str:
    """A line of the page, with this lab's names in it."""
    line = line.replace("--env production", "--env lab").replace("/production/", "/lab/")
    line = re.sub(r"(platform-(?:prefect|postgres)-?[a-z-]*[a-z])(?![a-z-])", r"\1-lab", line)
    line = line.replace("name=platform-postgres-lab", "name=platform-postgres")
    words = shlex.split(line)
    if words[0] == "ssh":
        assert words[1] == "root@203.0.113.7"
        return call("ssh", "-F", host.ssh_config, host.host, *words[2:], code=code)
    assert words[0] == "./invoke"
    env = words.index("--env")
    assert words[env + 1] == "lab", line
    done = vps.invoke(*words[1:env], *words[env + 2 :], code=code)
    return done.stdout + done.stderr


@pytest.mark.parametrize("title", TROUBLES)
def test_the_page_leads_out_of_the_trouble(
    standing: Vps, host: LabHost, docker: Docker, title: str, ssh: Callable[..., str]
) -> None:
    trouble, victim = TROUBLES[title]
    if trouble:
        docker(*trouble)
    first, *others = _sections()[title]
    said = _run(standing, host, first, 5 if trouble else 0)
    red = [line for line in said.splitlines() if line.startswith("FAIL")]
    assert not trouble or any(victim in line for line in red), said
    for line in others:
        _run(standing, host, line, None if "logs" in line else 0)
    standing.invoke("prefect.status")
