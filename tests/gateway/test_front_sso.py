"""As test_front, on a VPS where people sign in: whose cookies reach whom, and what ends their session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .reached import OUTPOST, VPS, VPS_HOST, Front, standing

APP = "app.example.com"
PEOPLE = {"auth": "sso-or-token", "allowed_groups": ["*"]}
ROUTES: list[dict[str, Any]] = [
    {"name": "app", "host": APP, **PEOPLE, "auth": "sso"},
    {"name": "tool", "path": "/tool", **PEOPLE},
    {"name": "open", "path": "/open", "auth": "public"},
]
OURS = "__Host-platform_session=p; authentik_proxy_0a1b2c3d=s"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]) -> Iterator[Front]:
    values = {**VPS, "prefect": PEOPLE}
    with standing(tmp_path_factory.mktemp("front"), json.dumps([entry]), ROUTES, values) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "host"), [("/x", VPS_HOST), ("/x", APP), ("/tool/x", VPS_HOST), ("/open/x", VPS_HOST)]
)
def test_the_sign_on_s_cookies_reach_no_service_and_the_users_own_do(
    front: Front, path: str, host: str
) -> None:
    seen = front.get(path, host, f"theme=dark; {OURS}").json()
    assert (seen["path"], seen["headers"]["cookie"]) == (path, "theme=dark")
    policy = front.get(path, host, OURS).headers.get("Content-Security-Policy", "")
    if path != "/x":
        assert policy.startswith("sandbox "), "its pages share Prefect's host"
        assert "allow-same-origin" not in policy
    elif host == APP:
        assert not policy


@pytest.mark.parametrize("host", [VPS_HOST, APP])
@pytest.mark.parametrize(
    "path",
    ["/outpost.goauthentik.io/sign_out", "/x?X-authentik-logout=true", "/?a=b&X%2Dauthentik-logout=TRUE"],
)
def test_only_a_link_on_a_page_of_the_same_host_ends_a_session_of_the_sign_on(
    front: Front, path: str, host: str
) -> None:
    image = {"Sec_Fetch_Dest": "image"}
    for marks in ({}, {"Sec_Fetch_Site": "same-site", **image}, {"Sec_Fetch_Site": "same-origin", **image},
                  {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}):  # fmt: skip
        front.service.seen.clear()
        answer = front.get(path, host, OURS, **marks)
        assert "Sign out" in answer.text
        assert not front.service.seen
    front.get(path, host, OURS, Sec_Fetch_Site="same-origin", Sec_Fetch_Dest="document")
    assert front.service.seen


def test_the_button_of_our_page_leads_on_to_authentik(front: Front) -> None:
    assert "<button>Log out</button>" in front.get("/auth/logout", VPS_HOST, OURS).text
    for origin, status in ((f"https://{VPS_HOST}", 200), (f"https://{APP}", 403), ("null", 403)):
        answer = httpx.post(
            f"{front.url}/auth/logout", headers={"Host": VPS_HOST, "Cookie": OURS, "Origin": origin}
        )
        assert (answer.status_code, "Refresh" in answer.headers) == (status, status == 200)


def test_a_session_of_prefect_s_own_login_does_not_reach_authentik(
    tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]
) -> None:
    """Where people sign in to a route on the host of the login link."""
    with standing(tmp_path_factory.mktemp("both"), json.dumps([entry]), ROUTES, VPS) as front:
        assert front.get("/tool/x", VPS_HOST, f"theme=dark; {OURS}").status_code == 200
        assert front.service.cookies[OUTPOST] == "theme=dark; authentik_proxy_0a1b2c3d=s"
        front.get("/outpost.goauthentik.io/ping", VPS_HOST, OURS)
        assert front.service.cookies["/outpost.goauthentik.io/ping"] == "authentik_proxy_0a1b2c3d=s"
