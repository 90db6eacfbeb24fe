"""What a token of scope prefect:read opens: what Traefik's ForwardAuth tells of a request decides."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway.process import Gateway

ID = "0c1d2e3f-0123-4567-89ab-0123456789ab"


@pytest.fixture(scope="module")
def reader(shared: Gateway) -> str:
    return shared.new_token("--scope", "prefect:read")


def ask(gateway: Gateway, token: str, method: str, uri: str, door: str = "") -> httpx.Response:
    told = [("Authorization", f"Bearer {token}"), ("X-Forwarded-Method", method), ("X-Forwarded-Uri", uri)]
    return gateway.get(f"/verify/prefect{door}", told)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "admin/version"),
        ("GET", f"flow_runs/{ID}"),
        ("GET", "work_pools/my%20pool"),
        ("GET", f"block_documents/{ID}"),
        ("POST", "flow_runs/filter"),
        ("POST", "flow_runs/filter?offset=5"),
        ("POST", "work_pools/default/queues/filter"),
    ],
)
def test_a_reader_reads(shared: Gateway, reader: str, method: str, path: str) -> None:
    for door in ("", "/browser"):
        assert ask(shared, reader, method, f"/prefect/api/{path}", door).status_code == 200


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("POST", "/prefect/api/flow_runs/"),
        ("POST", f"/prefect/api/flow_runs/{ID}/set_state"),
        ("POST", f"/prefect/api/deployments/{ID}/create_flow_run"),
        ("POST", "/prefect/api/work_pools/default/get_scheduled_flow_runs"),
        ("DELETE", f"/prefect/api/flow_runs/{ID}"),
        ("PATCH", f"/prefect/api/flow_runs/{ID}"),
        ("post", "/prefect/api/flow_runs/filter"),
        ("", "/prefect/api/admin/version"),
        # secrets
        ("GET", "/prefect/api/admin/settings"),
        ("POST", "/prefect/api/block_documents/filter"),
        ("GET", f"/prefect/api/block_documents/{ID}?include_secrets=true"),
        ("GET", f"/prefect/api/block_documents/{ID}?a=1&include%5Fsecrets"),
        # event sockets, metrics, pages, and what a newer Prefect might have
        ("GET", "/prefect/api/events/in"),
        ("GET", "/prefect/api/events/out"),
        ("GET", "/prefect/api/metrics"),
        ("GET", "/prefect/"),
        ("GET", "/prefect/api/flow_runs/export"),
        # another path for Prefect than for us
        ("GET", "/prefect/api/work_pools/..%2fflows"),
        ("GET", "/prefect/api/work_pools/.."),
        ("GET", "/prefect/api/work_pools/a%5cb"),
        ("GET", "/prefect/api/work_pools/a%0d%0ab"),
        ("GET", "/prefect/api//admin/version"),
        ("GET", "/other/prefect/api/admin/version"),
        ("GET", "/api/admin/version"),
        ("GET", "http://host/prefect/api/admin/version"),
        ("GET", ""),
    ],
)
def test_a_reader_does_nothing_else(shared: Gateway, reader: str, method: str, uri: str) -> None:
    answer = ask(shared, reader, method, uri)
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    assert "prefect:read" in answer.json()["hint"]
    assert ask(shared, reader, method, uri, "/browser").status_code == 403


def test_a_reader_opens_no_other_service_and_a_whole_token_all_of_prefect(
    shared: Gateway, reader: str
) -> None:
    assert shared.verify(reader, "metrics").status_code == 403
    assert ask(shared, shared.new_token(), "POST", "/prefect/api/flow_runs/").status_code == 200


def test_where_prefect_is_served_at_the_root_of_its_host(gateway: Gateway) -> None:
    gateway.env["GATEWAY_HOME_PATH"] = "/"
    token = gateway.new_token("--scope", "prefect:read")
    gateway.start()
    assert ask(gateway, token, "GET", "/api/admin/version").status_code == 200
    assert ask(gateway, token, "GET", "/prefect/api/admin/version").status_code == 403
