"""Two doors at one host: people sign in with Authentik, machines bring tokens; and what happens when a part of that is away or lies.

Authentik is the lab's stand-in; Traefik, verifier, Prefect and the browser are real.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browsing import Opened

from . import inventory
from .conftest import Docker
from .proofs import locked_down, secrets_show_nowhere
from .standins import AUTHENTIK
from .vps import Vps, containers, wait_for

pytestmark = pytest.mark.timeout(600)
SERVER, VERIFIER = "platform-authentik-server-lab", "platform-gateway-verifier-lab"
PEOPLE = {
    "jo": {"password": "jos-password", "groups": ["admins"]},
    "eve": {"password": "eves-password", "groups": []},
}
OTHER = {
    "name": "other",
    "host": "other.example.com",
    "url": f"http://{SERVER}:9000",
    "auth": "sso-or-token",
    "allowed_groups": ["admins"],
}
VERSION = "/api/admin/version"
ECHO = "/-/standin"
PAGE = {"Accept": "text/html"}


class Sso:
    """The platform with people who sign in. `url` is where; `seen` what was met there while it was set up; `planned` what was to change by
    that, `changed` what did.
    """

    def __init__(self, vps: Vps) -> None:
        self.vps = vps
        self.url = vps.url.replace("127.0.0.1", "localhost")
        self.seen: list[Any] = []
        self.planned, self.changed = set[str](), set[str]()

    def control(self, **wanted: Any) -> Any:
        """Of the stand-in: more people, a fault, sessions that end."""
        return httpx.post(f"{self.url}/-/standin", json=wanted, timeout=20).json()

    def watch(self, ended: threading.Event) -> None:
        """What a stranger meets at the sign-on's host, from the first moment that there is anything."""
        with httpx.Client(timeout=60) as client:
            while not ended.wait(0.05):
                answer = client.post(f"{self.url}/-/standin", json={})
                if answer.status_code != 404:
                    self.seen.append(answer.json() if answer.is_success else answer.status_code)


@pytest.fixture(scope="module")
def sso(vps: Vps, docker: Docker, ssh: Callable[..., str]) -> Iterator[Sso]:
    if vps.invoke("prefect.status", code=None).returncode:
        vps.invoke("platform.setup")
    made, ended = Sso(vps), threading.Event()
    vps.settings["prefect"] = {"auth": "sso-or-token"}
    vps.settings["authentik"] = {"public_url": made.url}
    vps.settings["gateway"] |= {"routes": [OTHER]}
    vps.write()
    needs = vps.invoke("prefect.setup", code=3)
    assert "./invoke authentik.setup --env lab" in needs.stderr
    made.planned = inventory.planned(vps.invoke("platform.plan", "--json").stdout)
    before = inventory.take(vps, docker, ssh)
    watching = threading.Thread(target=made.watch, args=[ended])
    watching.start()
    try:
        vps.invoke("authentik.setup")
    finally:
        ended.set()
        watching.join()
    vps.invoke("platform.setup")
    made.changed = inventory.changed(before, inventory.take(vps, docker, ssh))
    made.control(users=PEOPLE)
    yield made
    vps.settings["prefect"] = {}
    del vps.settings["gateway"]["routes"]
    vps.write()
    vps.invoke("prefect.setup")
    vps.invoke("authentik.remove", "--yes", "--data")
    vps.invoke("gateway.setup")
    del vps.settings["authentik"]
    vps.write()
    docker("rmi", f"{AUTHENTIK}-second", code=None)


def test_its_setup_does_what_the_plan_showed(sso: Sso) -> None:
    assert {"database authentik", "AppRole platform-lab.authentik", "account prefect-platform"} <= sso.planned
    assert {"Authentik provider Prefect-lab", "Authentik outpost embedded"} <= sso.planned
    assert sso.changed == sso.planned


def test_it_is_never_shown_before_its_setup_is_over(sso: Sso) -> None:
    assert [each for each in sso.seen if each != {"bootstrap": False, "ready": True}] == []


def test_it_is_as_locked_down_as_the_rest(sso: Sso, docker: Docker, ssh: Callable[..., str]) -> None:
    locked_down(docker)
    secrets_show_nowhere(sso.vps, docker, ssh)
    # Forwarded headers count from the gateway's network only.
    network = json.loads(docker("network", "inspect", "platform-edge-lab"))[0]["IPAM"]["Config"][0]["Subnet"]
    assert f"AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS={network}\0" in ssh(
        f"cat /proc/{_child(docker, SERVER, ssh)}/environ"
    )


def _child(docker: Docker, name: str, ssh: Callable[..., str]) -> str:
    """The process below the container's init."""
    return ssh(f"pgrep -P {containers(docker)[name]['State']['Pid']} | head -1").strip()


def _sign_in(page: Page, sso: Sso, name: str) -> None:
    page.goto(f"{sso.vps.url}/")
    page.wait_for_url(f"{sso.url}/if/flow/**")
    page.locator("input[name=username]").fill(name)
    page.locator("input[name=password]").fill(str(PEOPLE[name]["password"]))
    page.get_by_role("button").click()


FEED = """(url) => new Promise((done, failed) => {
    const feed = new WebSocket(url, ["prefect"]);
    feed.onerror = () => failed("no WebSocket");
    feed.onopen = () => feed.send(JSON.stringify({type: "auth", token: null}));
    feed.onmessage = (message) => { feed.close(); done(JSON.parse(message.data).type); };
})"""
ASK = "(path) => fetch(path).then(async (answer) => [answer.status, await answer.text()])"


def test_a_person_signs_in_works_and_leaves(sso: Sso, browser: BrowserContext) -> None:
    page = browser.new_page()
    opened = Opened(page)
    _sign_in(page, sso, "jo")
    opened.shows("Flow Runs")
    assert page.url.startswith(sso.vps.url)
    assert page.evaluate(ASK, VERSION) == [200, '"3.8.8"']
    feed = sso.vps.url.replace("http", "ws") + "/api/events/out"
    assert page.evaluate(FEED, feed) == "auth_success"
    # A machine's token works at the same host at the same time.
    with sso.vps.client() as machine:
        assert machine.get("/admin/version").status_code == 200

    # The session ends while the page is open: its requests are told so, the person too, and one click leads back in.
    sso.control(end_sessions=True)
    status, said = page.evaluate(ASK, VERSION)
    assert status == 401
    assert "Reload the page to sign in again" in said
    expect(page.get_by_role("alert")).to_contain_text("You are signed out.")
    opened = Opened(page)
    page.get_by_role("button", name="Sign in again").click()
    opened.shows("Flow Runs")
    assert page.get_by_role("alert").count() == 0

    # A link or an image elsewhere ends no session; the button of our page does.
    with _session(sso) as client:
        for path in ("/outpost.goauthentik.io/sign_out", "/auth/logout", "/?X-authentik-logout=true"):
            assert client.get(path, headers={"Sec-Fetch-Site": "same-site"}).status_code == 200
        assert client.get(VERSION).status_code == 200
    page.goto(f"{sso.vps.url}/auth/logout")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="log out of authentik").click()
    page.wait_for_url(f"{sso.url}/if/flow/**")
    page.goto(f"{sso.vps.url}/runs")
    page.wait_for_url(f"{sso.url}/if/flow/**")
    expect(page.get_by_role("button")).to_have_text("Log in")


def test_a_person_outside_the_group_is_refused(sso: Sso, browser: BrowserContext) -> None:
    page = browser.new_page()
    _sign_in(page, sso, "eve")
    expect(page.locator("body")).to_contain_text("Request has been denied")
    answer = page.goto(f"{sso.vps.url}/")
    assert answer
    assert answer.status == 403


class _Mapped(httpx.HTTPTransport):
    """Leads to the platform whatever host a URL names; the server is told that name."""

    def __init__(self, platform: str) -> None:
        super().__init__()
        self.port = httpx.URL(platform).port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        # Another request, not this one changed: cookies are kept by the URL that was asked for.
        there = request.url.copy_with(host="127.0.0.1", port=self.port)
        return super().handle_request(
            httpx.Request(request.method, there, headers=request.headers, stream=request.stream)
        )


@contextlib.contextmanager
def _session(sso: Sso, url: str = "", name: str = "jo") -> Iterator[httpx.Client]:
    """A client that has signed in, with a browser's cookies."""
    here, transport = url or sso.vps.url, _Mapped(sso.vps.url)
    with httpx.Client(base_url=here, follow_redirects=True, timeout=30, transport=transport) as client:
        form = client.get("/", headers=PAGE)
        fields = {"username": name, "password": str(PEOPLE[name]["password"])}
        done = client.post(form.url, data=fields, headers=PAGE)
        assert str(done.url).startswith(here), done.url
        client.follow_redirects = False
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-authentik-username", "jo"), ("X-authentik-groups", "admins")],
        [("X_authentik_username", "jo"), ("X.Authentik.Username", "jo"), ("X_authentik_groups", "admins")],
        [("X-Platform-Subject", "user:jo"), ("X-Platform-Role", "admin"), ("X-Platform-User", "jo")],
        [("X-Forwarded-Host", "localhost"), ("X-Forwarded-Uri", "/outpost.goauthentik.io/ping")],
        [
            ("X-Original-Url", "/ping"),
            ("X-Original-Uri", "/ping"),
            ("Forwarded", "for=127.0.0.1;host=localhost"),
        ],
        [("Authorization", "Basic amY6am9z")],
        [("Authorization", "Bearer not-a-token")],
        [("Authorization", "Bearer"), ("Authorization", "Basic amY6am9z")],
        [("Cookie", "authentik_proxy=guessed; authentik_session=guessed")],
        [("Connection", "X-Authentik-Username"), ("X-Authentik-Username", "jo")],
    ],
)
def test_no_header_opens_the_door(sso: Sso, headers: Sequence[tuple[str, str]]) -> None:
    answer = httpx.get(f"{sso.vps.url}{VERSION}", headers=list(headers), timeout=30)
    assert answer.status_code == 401, answer.text
    page = httpx.get(f"{sso.vps.url}/", headers=[*headers, *PAGE.items()], timeout=30)
    assert page.status_code in (302, 401), page.text
    assert "prefect" not in page.text.lower()


@pytest.mark.parametrize(
    "path",
    [
        "/outpost.goauthentik.io/../api/admin/version",
        "/outpost.goauthentik.io/%2e%2e/api/admin/version",
        "/outpost.goauthentik.io/..%2fapi/admin/version",
        "//api/admin/version",
        "/auth/logout/../../api/admin/version",
        "/ping/../api/admin/version",
        "/lab-verify/prefect/sso",
        "/lab-outpost",
    ],
)
def test_no_path_goes_around_the_door(sso: Sso, path: str) -> None:
    host, port = sso.vps.url.removeprefix("http://").split(":")
    with httpx.Client(timeout=30) as client:
        # As it is: a client would tidy it up.
        request = client.build_request("GET", f"http://{host}:{port}/")
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = client.send(request)
    assert answer.status_code in (400, 401, 404), (answer.status_code, answer.text)
    assert "3.8.8" not in answer.text


def test_what_a_person_sends_is_not_taken_for_who_they_are(sso: Sso) -> None:
    """Signed in, with forged headers and a foreign Authorization beside the session."""
    with _session(sso) as client:
        assert client.get(VERSION).status_code == 200
        forged = {
            "X-authentik-username": "akadmin",
            "X-Platform-Role": "admin",
            "Authorization": "Basic amY6am9z",
        }
        assert client.get(VERSION, headers=forged).status_code == 200
        # Another site cannot use the session to change something.
        elsewhere = {"Origin": "https://elsewhere.example.com", "Sec-Fetch-Site": "cross-site"}
        assert client.post("/api/flows/filter", json={}, headers=elsewhere).status_code == 403
        own = {"Origin": sso.vps.url, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/api/flows/filter", json={}, headers=own).status_code == 200


def test_a_yes_without_an_identity_is_refused(sso: Sso) -> None:
    """CVE-2026-25748: a malformed cookie made the outpost say yes to nobody."""
    sso.control(switches={"blank_identity": True})
    try:
        cookie = {"Cookie": "authentik_proxy=malformed"}
        assert httpx.get(f"{sso.vps.url}{VERSION}", headers=cookie, timeout=30).status_code == 401
        page = httpx.get(f"{sso.vps.url}/", headers={**cookie, **PAGE}, timeout=30)
        assert page.status_code == 401
        assert "Please sign in again" in page.text
    finally:
        sso.control(switches={"blank_identity": False})


def test_a_part_that_is_away_lets_nobody_in(sso: Sso, docker: Docker) -> None:
    with _session(sso) as person, sso.vps.client() as machine:
        for away, machines in ((SERVER, 200), (VERIFIER, None)):
            docker("kill", away)
            try:
                for client, path, headers in (
                    (person, VERSION, {}),
                    (person, "/", PAGE),
                    (machine, "/admin/version", {}),
                ):
                    status = _status(client, path, headers)
                    wanted = machines if client is machine else None
                    assert status == wanted if wanted else status in ("held", 500, 502, 503, 504), (
                        away,
                        path,
                    )
            finally:
                docker("start", away)
            wait_for(lambda: _status(person, VERSION, {}) == 200, f"{away} is back")
    sso.vps.until_well()


def _status(client: httpx.Client, path: str, headers: dict[str, str]) -> int | str:
    """The status, or that there is no answer within some seconds."""
    try:
        return client.get(path, headers=headers, timeout=4).status_code
    except httpx.TimeoutException:
        return "held"


def test_setup_again_changes_nothing_and_status_sees_what_changes_there(sso: Sso, docker: Docker) -> None:
    before = {name: each["Id"] for name, each in containers(docker).items()}
    assert "nothing changed" in sso.vps.invoke("authentik.setup").stderr
    assert "nothing changed" in sso.vps.invoke("prefect.setup").stderr
    assert {name: each["Id"] for name, each in containers(docker).items()} == before
    shown = sso.vps.invoke("authentik.list-apps").stdout
    assert "prefect-lab" in shown
    sso.vps.invoke("authentik.remove-proxy-app", "--slug=prefect-lab", "--yes")
    red = sso.vps.invoke("prefect.status", code=5).stdout
    assert "FAIL  authentik" in red
    assert "would be created application prefect-lab" in red
    assert "the outpost does not serve this host" in red
    assert httpx.get(f"{sso.vps.url}{VERSION}", timeout=30).status_code in (400, 401)
    sso.vps.invoke("prefect.setup")
    with _session(sso) as client:
        assert client.get(VERSION).status_code == 200


def test_another_service_behind_the_same_doors(sso: Sso) -> None:
    def asked(path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{sso.vps.url}{path}", headers={"Host": "other.example.com", **headers}, timeout=30)

    # Before Authentik knows of it, nobody comes in.
    assert asked(ECHO, **PAGE).status_code == 400
    host = "http://other.example.com"
    words = [
        "--name=Other",
        "--slug=other",
        f"--external-host={host}",
        f"--internal-host={SERVER}",
        "--port=9000",
    ]
    make = ["authentik.shared.create-proxy-app", *words, "--allowed-groups=admins"]
    planned = _told(sso, *make, "--dry-run")
    assert planned == {
        "group admins": "unchanged",
        "provider Other": "created",
        "application other": "created",
        "binding other ← admins": "created",
        "outpost embedded": "updated",
    }
    assert _told(sso, *make) == planned
    assert set(_told(sso, *make).values()) == {"unchanged"}
    refused = sso.vps.invoke("authentik.create-proxy-app", *words, "--allowed-groups=admin", code=2)
    assert "no group 'admin'" in refused.stderr

    assert asked(ECHO).status_code == 401
    login = asked(ECHO, **PAGE)
    assert login.status_code == 302
    assert login.headers["location"].startswith(f"{sso.url}/application/o/authorize/")
    forged = {
        "X-Platform-Role": "admin",
        "X-Platform-User": "akadmin",
        "X-Authentik-Email": "a@b",
        "X_Platform_Role": "x",
    }
    for scope, status in (("other", 200), ("prefect", 403)):
        made = sso.vps.invoke(
            "gateway.create-token", "--project=tests", "--service=other", f"--scope={scope}"
        )
        answer = asked(ECHO, Authorization=f"Bearer {made.stdout.strip()}", **forged)
        assert answer.status_code == status
        if status == 200:
            assert _identity(answer) == {"subject": "tests/other"}
    with _session(sso, host) as person:
        answer = person.get(ECHO, headers={**forged, "Authorization": "Basic amY6am9z"})
        assert _identity(answer) == {"subject": "user:jo", "user": "jo", "role": "admin"}
    # The session of one application is none of another's.
    with _session(sso) as person:
        cookie = f"authentik_proxy={person.cookies['authentik_proxy']}"
    assert asked(ECHO, Cookie=cookie).status_code == 401
    sso.vps.invoke("authentik.remove-proxy-app", "--slug=other", "--yes")
    assert asked(ECHO, **PAGE).status_code == 400


def _told(sso: Sso, *words: str) -> dict[str, str]:
    """What a task says of each object: kind and name → action."""
    told = json.loads(sso.vps.invoke(*words, "--json").stdout)
    return {f"{each['kind']} {each['name']}": each["action"] for each in told}


def _identity(answer: httpx.Response) -> dict[str, str]:
    """What the service behind was told of who asks; nothing of it may be the caller's own word."""
    told = answer.raise_for_status().json()
    assert not {"authorization", "x-authentik-email", "x_platform_role", "cookie"} & set(told)
    names = {"subject", "user", "role"}
    return {name: told[f"x-platform-{name}"] for name in names if f"x-platform-{name}" in told}


def test_another_image_comes_after_a_dump(sso: Sso, docker: Docker, ssh: Callable[..., str]) -> None:
    docker("tag", AUTHENTIK, f"{AUTHENTIK}-second")
    sso.vps.settings["authentik"]["image"] = f"{AUTHENTIK}-second"
    sso.vps.write()
    before = ssh("readlink /opt/platform/lab/authentik/current").strip().removeprefix("releases/")
    sso.vps.invoke("authentik.setup")
    assert containers(docker)[SERVER]["Config"]["Image"] == f"{AUTHENTIK}-second"
    assert f"authentik-{before}.dump" in ssh("ls /opt/platform/lab/postgres/dumps")
    with _session(sso) as client:
        assert client.get(VERSION).status_code == 200
