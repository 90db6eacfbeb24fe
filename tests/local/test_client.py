"""What a real Prefect client does through the gateway, and what it is refused without a good token."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from .client import DEPLOY, PREFECT, Client, ended, new_client, of_our_worker, until
from .conftest import Clone

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def client(clone: Clone, token: str) -> Iterator[Client]:
    with new_client(clone, token) as made:
        yield made


@contextmanager
def _events(client: Client) -> Iterator[Path]:
    """`prefect events stream` into a file (its own --output-file crashes in Prefect 3.8.8), once events come out of it."""
    file = client.folder / "events.txt"
    words = (*PREFECT, "events", "stream", "--format", "text")
    with file.open("w") as into, ended(client.start(*words, into=into)) as process:

        def streams() -> bool:
            assert process.poll() is None, file.read_text()
            event = {
                "id": str(uuid.uuid4()),
                "occurred": datetime.now(UTC).isoformat(),
                "event": "tests.listening",
                "resource": {"prefect.resource.id": "tests.client"},
            }
            client.api.post("/events", json=[event]).raise_for_status()
            return "tests.listening" in file.read_text()

        until(streams, "no event came out of the stream")
        yield file


def test_it_beats_and_tries_again_as_a_worker_of_ours_does(clone: Clone, client: Client) -> None:
    ours = of_our_worker(clone.root)
    assert {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_CLIENT_RETRY_EXTRA_CODES"} <= ours.keys()
    assert [name for name, value in ours.items() if f"export {name}={value}\n" not in client.lines] == []


def test_a_flow_from_a_folder_runs_on_the_platforms_worker(client: Client) -> None:
    assert "default" in client.run(*PREFECT, "work-pool", "ls")
    client.run(*DEPLOY, "-n", "deployed", "-p", "default")
    with _events(client) as file:
        run = client.run_deployment("deployed")
        for event in ("flow-run.Pending", "flow-run.Running", "flow-run.Completed"):
            line = f"prefect.{event} prefect.flow-run.{run}"
            until(lambda line=line: line in file.read_text(), f"not streamed: {line}")  # type: ignore[misc]


def test_a_served_flow_runs_in_its_own_process(client: Client) -> None:
    def served() -> bool:
        return client.api.get("/deployments/name/hello/served").status_code == 200

    log = client.folder / "served.txt"
    with log.open("w") as into, ended(client.start("hello.py", into=into)) as process:
        until(lambda: served() or process.poll() is not None, "hello.serve() registered no deployment")
        assert process.poll() is None, log.read_text()
        client.run_deployment("served")
    assert "hello from served" in log.read_text(), "it ran, but not here"


def test_a_second_worker_runs_what_its_pool_gets(client: Client) -> None:
    client.run(*PREFECT, "work-pool", "create", "elsewhere", "--type", "process")
    try:
        client.run(*DEPLOY, "-n", "elsewhere", "-p", "elsewhere")
        worker = (*PREFECT, "worker", "start", "--pool", "elsewhere", "--name", "second")
        log = client.folder / "worker.txt"
        with log.open("w") as into, ended(client.start(*worker, into=into)):
            run = client.run_deployment("elsewhere")
            (seen,) = client.read("POST", "/work_pools/elsewhere/workers/filter")
            assert (seen["name"], seen["status"]) == ("second", "ONLINE")
        assert run in log.read_text(), "it ran, but not on this worker"
    finally:
        client.api.delete("/work_pools/elsewhere").raise_for_status()


REFUSED = {
    "list pools": (*PREFECT, "work-pool", "ls"),
    "deploy": (*DEPLOY, "-n", "refused", "-p", "default"),
    "serve": ("hello.py",),
    "worker": (*PREFECT, "worker", "start", "--pool", "default", "--name", "refused"),
    "events": (*PREFECT, "events", "stream"),
    "logs": (*PREFECT, "flow-run", "logs", str(uuid.uuid4())),
}


@pytest.mark.parametrize(
    ("name", "held"), [*((name, "bad token") for name in REFUSED), ("list pools", "no token")]
)
def test_without_a_good_token_it_fails_with_401(
    clone: Clone, client: Client, token: str, name: str, held: str
) -> None:
    if held == "no token":
        lines = client.lines + "unset PREFECT_CLIENT_CUSTOM_HEADERS\n"
    else:
        lines = clone.invoke("prefect.client-env", "--token", token[:-9] + "forgedSig").stdout
    with ended(client.start(*REFUSED[name], lines=lines)) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "401" in out
    assert client.api.get("/deployments/name/hello/refused").status_code == 404
