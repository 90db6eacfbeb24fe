"""What the public port refuses and admits, on any target. Each function asserts for one case; the lists are the cases."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence

import httpx

from tests.gateway.forge import Forge, decode
from tests.gateway.forgeries import CLAIMS, FORGERIES
from tests.platforms import Reached

__all__ = ["CLAIMS", "FORGERIES"]
VERSION = "/prefect/api/admin/version"
CREDENTIALS: list[list[tuple[str, str]]] = [
    [("Authorization", "Bearer {}"), ("Authorization", "Bearer {}")],
    [("Authorization", "Basic dXNlcjpwYXNz"), ("Authorization", "Bearer {}")],
    [("Authorization", "Bearer {}"), ("Authorization", "Bearer none")],
    [("Authorization", "Bearer {}, Bearer {}")],
    [("Authorization_", "Bearer {}")],
    [("X-Authorization", "Bearer {}")],
    [("X-Forwarded-Authorization", "Bearer {}")],
    [("Cookie", "session={}")],
    [("Authorization", "Bearer " + "x" * 60_000)],
]
"""Headers that are not one plain bearer token; `{}` stands for a good one."""
CLOSED = [
    "/prefect/api/admin/version",
    "/prefect/",
    "/prefect",
    "/metrics",
    "/prefect/api/metrics",
    "/auth/tokens",
    "/prefect/api/../api/health",
]
TRICKS = [
    b"/prefect%2Fapi/health",
    b"/ping/..%2Fprefect/api/health",
    b"/ping%2F..%2Fprefect/",
    b"/ping/../prefect/api/health",
    b"//prefect/api/health",
]


def forge_of(platform: Reached, token: str) -> Forge:
    """It signs with the platform's own key, so that each forgery differs from a good token in one respect only."""
    secrets = json.loads((platform.state / "secrets" / "gateway.json").read_text())
    kid = json.loads(decode(token.split(".")[0]))["kid"]
    keys = json.loads(secrets["GATEWAY_SIGNING_KEYS"])
    return Forge(next(key for key in keys if key["kid"] == kid), token)


def _get(platform: Reached, headers: Sequence[tuple[str, str]]) -> httpx.Response:
    return httpx.get(f"{platform.url}{VERSION}", headers=list(headers), timeout=30)


def _shape(answer: httpx.Response) -> tuple[int, bytes, list[str]]:
    return answer.status_code, answer.content, sorted({*answer.headers} - {"date"})


def good_token(platform: Reached, forge: Forge) -> None:
    for token in (forge.token, forge.sign()):
        assert _get(platform, [("Authorization", f"Bearer {token}")]).status_code == 200


def forged_token(platform: Reached, forge: Forge, name: str) -> None:
    answer = _get(platform, [("Authorization", f"Bearer {FORGERIES[name](forge)}")])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert _shape(answer) == _shape(_get(platform, []))


def token_without(platform: Reached, forge: Forge, claim: str) -> None:
    answer = _get(platform, [("Authorization", f"Bearer {forge.sign({claim: None})}")])
    assert _shape(answer) == _shape(_get(platform, []))


def credential(platform: Reached, forge: Forge, headers: Sequence[tuple[str, str]]) -> None:
    sent = [(name, value.replace("{}", forge.token)) for name, value in headers]
    assert _get(platform, sent).status_code == 401


def closed(platform: Reached, path: str) -> None:
    forged = {"X-Platform-Subject": "root", "X_Platform_Subject": "root", "X-Forwarded-Uri": "/ping"}
    with httpx.Client(base_url=platform.url) as client:
        answer = client.get(path, headers=forged)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/ping").status_code == 200


def beyond_its_record(platform: Reached, forge: Forge) -> None:
    """The key's holder signs more than was granted, under the id of a token that exists."""
    more = forge.sign({"scope": f"{forge.payload['scope']} metrics", "exp": forge.payload["exp"] + 10**6})
    headers = {"Authorization": f"Bearer {more}"}
    assert httpx.get(f"{platform.url}/metrics", headers=headers, timeout=30).status_code == 403


def reader(api: str, token: str) -> None:
    """A token of scope prefect:read sees, and changes nothing, whatever it says of its requests."""
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=70) as client:
        assert client.get(f"{api}/admin/version").status_code == 200
        found = client.post(f"{api}/work_pools/filter", json={})
        assert found.status_code == 200
        assert found.json()
        said = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/prefect/api/admin/version"}
        for more in ({}, said):
            assert client.post(f"{api}/flows/", json={"name": "made"}, headers=more).status_code == 403
            assert client.post(f"{api}/block_documents/filter", json={}, headers=more).status_code == 403
            assert client.delete(f"{api}/work_pools/default", headers=more).status_code == 403
            assert client.get(api.removesuffix("api"), headers=more).status_code == 403


def trick(platform: Reached, path: bytes) -> None:
    with socket.create_connection(("127.0.0.1", platform.ports["port"]), 5) as raw:
        raw.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        status = int(raw.recv(4096).split()[1])
    assert status in (400, 401, 404)
