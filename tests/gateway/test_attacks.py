"""Everything that must not get in, against a running verifier. Every refusal is the same, whatever the reason."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from tests.gateway.forge import Forge
from tests.gateway.forgeries import CLAIMS, FORGERIES, NOW
from tests.gateway.process import Gateway


def shape(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return response.status_code, response.content, sorted(response.headers.items())


@pytest.fixture(scope="module")
def refusal(shared: Gateway) -> tuple[int, bytes, list[tuple[str, str]]]:
    """What a request without any credential gets."""
    response = shared.get("/verify/prefect")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer realm=")
    return shape(response)


def test_the_untouched_token_and_its_remake_are_admitted(shared: Gateway, forge: Forge) -> None:
    for token in (forge.token, forge.sign(), forge.sign({"nbf": NOW - 10})):
        response = shared.verify(token)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["X-Platform-Subject"] == "example-app/worker"
        assert response.headers["X-Platform-Project"] == "example-app"
        assert response.headers["X-Platform-Service"] == "worker"
        assert response.headers["X-Platform-Token-Id"] == forge.payload["jti"]
        assert "authorization" not in response.headers


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_and_teaches_nothing(
    shared: Gateway, forge: Forge, refusal: object, name: str
) -> None:
    token = FORGERIES[name](forge)
    assert shape(shared.verify(token)) == refusal
    assert shared.get("/verify/prefect/browser", [("Authorization", f"Bearer {token}")]).status_code == 401


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("value", [None, "", 7.5, {}, [], True])
def test_a_claim_missing_or_of_a_wrong_type_is_refused(
    shared: Gateway, forge: Forge, refusal: object, claim: str, value: object
) -> None:
    assert shape(shared.verify(forge.sign({claim: value}))) == refusal


@pytest.mark.parametrize(
    "values",
    [
        ["Basic dXNlcjpwYXNz"],
        ["Bearer"],
        ["xBearer {}"],
        ["Token {}"],
        ["Bearer {}, Bearer {}"],
        ["Bearer {} trailing"],
        ["Bearer {}", "Bearer {}"],
        ["Basic dXNlcjpwYXNz", "Bearer {}"],
        ["Bearer {}", ""],
        ["Bearer " + "x" * 60_000],
        ["Bearer {}" + " " * 9000 + "x"],
    ],
)
def test_only_one_well_formed_bearer_header_counts(
    shared: Gateway, forge: Forge, refusal: object, values: list[str]
) -> None:
    headers = [("Authorization", value.replace("{}", forge.token)) for value in values]
    assert shape(shared.get("/verify/prefect", headers)) == refusal
    assert shape(shared.get("/verify/prefect/browser", headers)) == refusal


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER\t", "Bearer   "])
def test_the_scheme_is_not_case_sensitive(shared: Gateway, forge: Forge, scheme: str) -> None:
    assert shared.get("/verify/prefect", [("Authorization", scheme + forge.token)]).status_code == 200


def test_a_lacking_scope_is_forbidden_not_unauthorized(shared: Gateway, forge: Forge) -> None:
    assert shared.verify(forge.token, "metrics").status_code == 200
    for scope in ("admin", "pre", "prefect%20metrics", "PREFECT"):
        response = shared.verify(forge.token, scope)
        assert (response.status_code, response.json()) == (403, {"error": "forbidden"})


def test_a_session_is_no_token_and_a_token_no_session(shared: Gateway, forge: Forge, refusal: object) -> None:
    session = shared.log_in()
    assert shared.browse(session).status_code == 200
    assert shape(shared.verify(session)) == refusal
    assert shape(shared.get("/verify/prefect/browser", [("Authorization", f"Bearer {session}")])) == refusal
    assert shape(shared.browse(forge.token)) == refusal
    retyped = forge.sign(header={"typ": "platform-session+jwt"})
    assert shape(shared.browse(retyped)) == refusal  # the record says token, whatever the header claims


def test_tokens_in_query_cookie_or_other_headers_do_not_count(shared: Gateway, forge: Forge) -> None:
    assert shared.get(f"/verify/prefect?access_token={forge.token}").status_code == 401
    for name in ("Proxy-Authorization", "X-Authorization", "X-Forwarded-Authorization"):
        assert shared.get("/verify/prefect", [(name, f"Bearer {forge.token}")]).status_code == 401
    assert (
        shared.get("/verify/prefect", [("Cookie", f"{shared.cookie_name}={shared.log_in()}")]).status_code
        == 401
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\x00\r\n\r\n",
        b"GET /verify/prefect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\x80\r\n\r\n",
        b"GET /verify/prefect HTTP/1.1\r\nHost: x\r\nAuthorization:\r\n\r\n",
        b"GET /verify/..%2fprefect HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_garbage_on_the_wire_admits_nobody_and_breaks_nothing(
    shared: Gateway, forge: Forge, raw: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", int(shared.env["GATEWAY_PORT"])), timeout=10) as wire:
        wire.sendall(raw)
        wire.shutdown(socket.SHUT_WR)
        answer = wire.recv(65536)
    assert not answer.startswith(b"HTTP/1.1 2")
    assert shared.verify(forge.token).status_code == 200


def test_no_log_line_holds_a_credential(shared: Gateway, forge: Forge) -> None:
    shared.verify(forge.token)
    shared.verify(forge.wrong_key())
    assert forge.signature not in shared.log()
    assert "Traceback" not in shared.log()


def test_a_signed_token_gets_no_more_than_its_record_grants(shared: Gateway, entry: dict[str, Any]) -> None:
    """Whoever holds a signing key can sign any scope and any end under the id of a token that exists."""
    forge = Forge(entry, shared.new_token("--scope", "prefect:read"))
    wider = forge.sign({"scope": "prefect:read prefect metrics"})
    for scope in ("prefect", "metrics"):
        assert shared.verify(wider, scope).status_code == 403
    assert shared.verify(forge.sign({"project": "other", "sub": "other/modal"})).status_code == 401
    short = Forge(entry, shared.new_token("--expires", "2s"))
    later = short.sign({"exp": NOW + 3600})
    assert shared.verify(later).status_code == 200
    assert shared.status_within(8, later, 401) == 401


def test_a_signed_token_may_claim_less_than_its_record_grants(shared: Gateway, forge: Forge) -> None:
    narrower = forge.sign({"scope": "metrics"})
    assert [shared.verify(narrower, scope).status_code for scope in ("metrics", "prefect")] == [200, 403]


def test_what_a_person_takes_from_the_record_is_gone(gateway: Gateway) -> None:
    """The record counts, so its scope and its end can be changed where it is."""
    token = gateway.new_token("--scope", "prefect metrics")
    gateway.sql("UPDATE gateway_tokens SET scope = 'metrics'")
    gateway.start()
    assert [gateway.verify(token, scope).status_code for scope in ("metrics", "prefect")] == [200, 403]
    gateway.sql("UPDATE gateway_tokens SET expires_at = '2001-01-01 00:00:00'")
    assert gateway.status_within(5, token, 401) == 401
