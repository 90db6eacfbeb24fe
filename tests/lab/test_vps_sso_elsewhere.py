"""An Authentik that runs elsewhere (`authentik.url`): nothing of it is ours but Prefect's application in it.

It is the stand-in, on this machine's own address, with what a used one has; containers reach it as they would the internet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.authentik.conftest import TOKEN, Authentik, embedded, seed

from .conftest import Docker
from .vps import Vps, containers, own_address

pytestmark = pytest.mark.timeout(600)
VERSION, PAGE = "/api/admin/version", {"Accept": "text/html"}


@pytest.fixture(scope="module")
def elsewhere(vps: Vps) -> Iterator[Authentik]:
    if vps.invoke("prefect.status", code=None).returncode:
        vps.invoke("platform.setup")
    made = Authentik(own_address())
    made.reset()
    seed(made.state)
    embedded(made.state)["config"]["authentik_host"] = made.url
    vps.settings["prefect"] = {"auth": "sso-or-token"}
    vps.settings["authentik"] = {"url": made.url}
    vps.write()
    try:
        yield made
    finally:
        made.stop()
        vps.settings["prefect"] = {}
        vps.write()
        vps.invoke("prefect.setup")
        vps.invoke("authentik.remove", "--yes", "--data")
        del vps.settings["authentik"]
        vps.write()


def _foreign(now: Authentik) -> dict[str, Any]:
    """What is there but Prefect's application and provider; the outpost's list without it, its settings as they are."""
    kept = copy.deepcopy(now.foreign())
    (outpost,) = (copy.deepcopy(each) for each in now.state["outposts"].values() if each["managed"])
    outpost["providers"] = [each for each in outpost["providers"] if str(each) in kept["providers"]]
    return {**kept, "outpost": outpost, "users": copy.deepcopy(now.state["users"])}


def test_it_is_used_with_a_token_and_keeps_what_it_has(
    vps: Vps, elsewhere: Authentik, docker: Docker
) -> None:
    without = vps.invoke("prefect.setup", code=3)
    assert "./invoke authentik.setup --env lab" in without.stderr
    untold = vps.invoke("authentik.setup", code=3)
    assert "AUTHENTIK_TOKEN=… " in untold.stderr
    wrong = vps.invoke("authentik.setup", code=3, environ={"AUTHENTIK_TOKEN": "not-the-token"})
    assert elsewhere.url in wrong.stderr
    assert "not-the-token" not in wrong.stderr
    before = _foreign(elsewhere)
    kept = vps.invoke("authentik.setup", environ={"AUTHENTIK_TOKEN": TOKEN})
    assert "Vault" in kept.stdout + kept.stderr
    assert TOKEN not in kept.stdout + kept.stderr

    vps.invoke("prefect.setup")
    assert not [name for name in containers(docker) if "authentik" in name]
    assert _foreign(elsewhere) == before
    assert "prefect-lab" in elsewhere.state["applications"]
    assert "nothing changed" in vps.invoke("prefect.setup").stderr
    writes = len(elsewhere.api.writes)
    assert "application prefect-lab exists for admins" in vps.invoke("prefect.status").stdout
    assert len(elsewhere.api.writes) == writes


def test_people_sign_in_there_and_machines_bring_tokens(vps: Vps, elsewhere: Authentik) -> None:
    people = {"jo": ["admins"], "eve": []}
    users = {name: {"password": f"{name}s-password", "groups": groups} for name, groups in people.items()}
    httpx.post(f"{elsewhere.url}/-/standin", json={"users": users}).raise_for_status()
    assert httpx.get(f"{vps.url}{VERSION}", timeout=30).status_code == 401
    stranger = httpx.get(f"{vps.url}/", headers=PAGE, timeout=30)
    assert stranger.status_code == 302
    assert stranger.headers["location"].startswith(f"{elsewhere.url}/application/o/authorize/")
    with vps.client() as machine:
        assert machine.get("/admin/version").status_code == 200
    with httpx.Client(follow_redirects=True, timeout=30, headers=PAGE) as person:
        assert _signed_in(person, vps, "jo").url.host == "127.0.0.1"
        assert person.get(f"{vps.url}{VERSION}", headers={"Accept": "*/*"}).json() == "3.8.8"
    with httpx.Client(follow_redirects=True, timeout=30, headers=PAGE) as person:
        assert "Request has been denied" in _signed_in(person, vps, "eve").text
        assert person.get(f"{vps.url}{VERSION}", headers={"Accept": "*/*"}).status_code == 401


def _signed_in(person: httpx.Client, vps: Vps, name: str) -> httpx.Response:
    form = person.get(f"{vps.url}/")
    return person.post(form.url, data={"username": name, "password": f"{name}s-password"})


def test_when_it_is_away_nobody_comes_in_but_machines(vps: Vps, elsewhere: Authentik) -> None:
    with vps.client() as machine:
        elsewhere.stop()
        assert machine.get("/admin/version").status_code == 200
    try:
        answer = httpx.get(f"{vps.url}/", headers=PAGE, timeout=6)
    except httpx.TimeoutException:
        answer = None
    assert answer is None or answer.status_code in (401, 502, 503, 504)
    red = vps.invoke("prefect.status", code=5).stdout
    assert "FAIL  authentik" in red
    assert elsewhere.url in red
