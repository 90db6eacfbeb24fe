"""The client against a real HTTP server that answers as told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefect_platform.checks.one_look import OneLook
from prefect_platform.errors import PlatformError
from prefect_platform.provisioning.prefect.api import ApiError, PrefectApi

from .conftest import free_port


@contextmanager
def answering(*statuses: int, body: str = '{"id": "1"}') -> Iterator[tuple[str, list[str]]]:
    """A server that gives these statuses in turn, then the last one for ever; and the requests that it got."""
    left, got = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            got.append(f"{self.command} {self.path}")
            status = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/prefect/api", got
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [502, 503])
def test_passing_faults_are_repeated(status: int) -> None:
    with answering(status, status, 200) as (url, got), PrefectApi(url) as api:
        assert api.work_pool("p") == {"id": "1"}
    assert got == ["GET /prefect/api/work_pools/p"] * 3


def test_what_two_probes_of_one_look_list_is_asked_once() -> None:
    with answering(200) as (url, got), OneLook(url) as api, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(api.workers, name) for name in ("a", "b", "a", "a")]
        assert {str(each.result()) for each in asked} == {"['id']"}
    assert sorted(got) == [f"POST /prefect/api/work_pools/{name}/workers/filter" for name in ("a", "b")]


def test_what_one_probe_is_refused_the_others_are_too() -> None:
    with answering(500) as (url, got), OneLook(url, retry_seconds=0) as api, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(api.work_pools) for _ in range(3)]
        assert [type(each.exception()) for each in asked] == [ApiError] * 3
    assert len(got) == 1


def test_repeating_ends() -> None:
    with (
        answering(503) as (url, got),
        PrefectApi(url, retry_seconds=0.5) as api,
        pytest.raises(ApiError, match="503") as caught,
    ):
        api.ready()
    assert caught.value.status == 503
    assert len(got) > 1


def test_what_is_gone_was_deleted() -> None:
    """By a call whose answer was lost, perhaps."""
    with answering(502, 404) as (url, got), PrefectApi(url) as api:
        api.delete_automation("one")
    assert got == ["DELETE /prefect/api/automations/one"] * 2


@pytest.mark.parametrize("status", [307, 400, 401, 409, 422, 500])
def test_lasting_faults_are_not_repeated(status: int) -> None:
    with (
        answering(status, body="x" * 1000) as (url, got),
        PrefectApi(url) as api,
        pytest.raises(ApiError) as caught,
    ):
        api.create_work_pool({"name": "p"})
    assert caught.value.reason == f"POST /prefect/api/work_pools/: {status} {'x' * 300}"
    assert len(got) == 1


def test_a_page_instead_of_json() -> None:
    with (
        answering(200, body="<html>") as (url, _),
        PrefectApi(url) as api,
        pytest.raises(ApiError, match="GET /prefect/api/admin/version: not JSON: <html>"),
    ):
        api.version()


def test_names_are_quoted() -> None:
    with answering(200) as (url, got), PrefectApi(url) as api:
        api.update_queue("a b", "c?d/e", {})
    assert got == ["PATCH /prefect/api/work_pools/a%20b/queues/c%3Fd%2Fe"]


def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{free_port()}/prefect/api"
    with (
        PrefectApi(url, "secret-token", retry_seconds=0.2) as api,
        pytest.raises(ApiError, match="GET /prefect/api/ready: no connection") as caught,
    ):
        api.ready()
    assert caught.value.status is None
    assert "secret-token" not in f"{caught.value}{api!r}{vars(api)}"


@pytest.mark.parametrize("token", ["secret\ntoken", "secret token", "secrét"])
def test_what_cannot_be_a_token_is_refused_unseen(token: str) -> None:
    with pytest.raises(PlatformError) as caught:
        PrefectApi("http://127.0.0.1/api", token)
    assert "secr" not in str(caught.value)
