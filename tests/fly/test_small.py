"""A machine of 512 MB without workers, and without a network to the outside: the journeys of the local platform pass on it too."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import BrowserContext
from websockets.sync.client import connect

from tests.gateway.forge import Forge
from tests.lab.conftest import Docker
from tests.local import doors
from tests.local.client import Client, ended, new_client
from tests.local.journey import in_and_out

from .app import Fly, Writer
from .conftest import Launch

pytestmark = [pytest.mark.timeout(600), pytest.mark.browser]
LIMIT = 512
NO_ROOM = "error creating a new machine: failed to launch VM: insufficient resources to create new machine with existing volume 'vol_tests-small1'"
DEFERRED = {"type": "SCHEDULED", "name": "Scheduled"}
KILLS, EACH = 8, 40
"""Each kill costs a start of the machine; what a kill may lose is among the writes before it."""


@pytest.fixture(scope="module")
def clone(launch: Launch) -> Fly:
    made = launch("tests-small", memory=f"{LIMIT}mb")
    made.settings["prefect"] = {"workers": []}
    made.write()
    made.fault("deploy .", NO_ROOM)
    done = made.invoke("prefect.setup")
    assert "the host of the new volume vol_tests-small1 has no room for the machine" in done.stderr
    assert [each["id"] for each in json.loads(made.flyctl("volumes", "list"))] == ["vol_tests-small2"]
    assert "skipped: no worker is configured, and no remote worker is online in pool default" in done.stdout
    return made


@pytest.fixture(scope="module")
def outside(client: Client) -> Iterator[subprocess.Popen[str]]:
    """A worker that is not on the machine."""
    words = ("-m", "prefect", "--no-prompt", "worker", "start", "--pool", "default", "--name", "outside")
    with (client.folder / "outside.txt").open("w") as into, ended(client.start(*words, into=into)) as worker:
        pool = "/work_pools/default/workers/filter"
        while not [each for each in client.read("POST", pool) if each["status"] == "ONLINE"]:
            assert worker.poll() is None, (client.folder / "outside.txt").read_text()
            time.sleep(0.3)
        yield worker


@pytest.fixture(scope="module")
def platform(clone: Fly, outside: subprocess.Popen[str]) -> Fly:
    """With somebody who runs the canary."""
    return clone


@pytest.fixture(scope="module")
def token(clone: Fly) -> str:
    return clone.invoke("gateway.create-token", "--project", "tests", "--service", "all").stdout.strip()


@pytest.fixture(scope="module")
def client(clone: Fly, token: str) -> Iterator[Client]:
    with new_client(clone, token) as made:
        yield made


@pytest.fixture(scope="module")
def forge(clone: Fly, token: str) -> Forge:
    return doors.forge_of(clone, token)


def test_the_way_in_and_out(platform: Fly, browser: BrowserContext) -> None:
    in_and_out(platform, browser)


def test_a_good_token_is_let_in(platform: Fly, forge: Forge) -> None:
    doors.good_token(platform, forge)


@pytest.mark.parametrize("name", doors.FORGERIES)
def test_a_forged_token_gets_what_no_token_gets(platform: Fly, forge: Forge, name: str) -> None:
    doors.forged_token(platform, forge, name)


@pytest.mark.parametrize("claim", doors.CLAIMS)
def test_a_token_without_a_claim_is_refused(platform: Fly, forge: Forge, claim: str) -> None:
    doors.token_without(platform, forge, claim)


def test_a_signed_token_gets_no_more_than_its_record_grants(platform: Fly, forge: Forge) -> None:
    doors.beyond_its_record(platform, forge)


def test_a_token_that_may_read_changes_nothing(platform: Fly) -> None:
    made = ("gateway.create-token", "--project=tests", "--service=reader", "--scope=prefect:read")
    doors.reader(f"{platform.url}/prefect/api", platform.invoke(*made).stdout.strip())


@pytest.mark.parametrize("headers", doors.CREDENTIALS)
def test_a_credential_that_is_not_one_plain_bearer_header_is_refused(
    platform: Fly, forge: Forge, headers: list[tuple[str, str]]
) -> None:
    doors.credential(platform, forge, headers)


@pytest.mark.parametrize("path", doors.CLOSED)
def test_nothing_is_open_without_a_token(platform: Fly, path: str) -> None:
    doors.closed(platform, path)


@pytest.mark.parametrize("path", doors.TRICKS)
def test_path_tricks_do_not_get_past_the_door(platform: Fly, path: bytes) -> None:
    doors.trick(platform, path)


def test_the_canary_runs_on_a_worker_outside(platform: Fly, client: Client) -> None:
    shown = platform.invoke("prefect.smoke").stdout
    run = re.search(r"canary +run \S+ \((\S+)\) Completed .* its task run is recorded", shown)
    assert run, shown
    assert run[1] in (client.folder / "outside.txt").read_text()
    assert platform.invoke("prefect.status").returncode == 0


def test_it_is_as_small_as_its_limit_and_reaches_nobody(clone: Fly, docker: Docker) -> None:
    limits = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", clone.container))
    assert limits["Memory"] == limits["MemorySwap"] == LIMIT << 20
    # By proportional set size, because the lab's engine may be on a machine without memory groups.
    script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {sum += $2} END {print sum}'"
    used = int(docker("exec", "--privileged", clone.container, "sh", "-c", script))
    assert used / 1024 < LIMIT


def test_what_a_killed_machine_had_acknowledged_is_there(clone: Fly, docker: Docker) -> None:
    """Killed in the middle of writes, so many times."""
    acknowledged: list[str] = []
    check = "import sqlite3; print(sqlite3.connect('/data/prefect/prefect.db').execute('PRAGMA integrity_check').fetchone()[0])"
    with clone.client("kill") as api:
        flow = api.post("/flows/", json={"name": "killed"}).json()["id"]
        for _ in range(KILLS):
            writers = [Writer(api, flow) for _ in range(2)]
            for each in writers:
                each.start()
            while sum(len(each.acknowledged) for each in writers) < EACH:
                time.sleep(0.01)
            docker("kill", "-s", "KILL", clone.container)
            for each in writers:
                each.join()
                acknowledged += each.acknowledged
            docker("start", clone.container)
            clone.until_ready(api)
            said = docker("exec", "-u", "1001", clone.container, "python", "-c", check)
            assert said.strip() == "ok"
        found: set[str] = set()
        for start in range(0, len(acknowledged), 100):
            chosen = {"flow_runs": {"id": {"any_": acknowledged[start : start + 100]}}}
            found |= {each["id"] for each in api.post("/flow_runs/filter", json=chosen).json()}
        # Pending for ever, they would keep the machine awake.
        api.delete(f"/flows/{flow}").raise_for_status()
    assert len(acknowledged) >= KILLS * EACH
    assert set(acknowledged) <= found


def test_it_sleeps_when_nothing_is_to_do_and_not_before(
    clone: Fly, docker: Docker, outside: subprocess.Popen[str]
) -> None:
    """Fly is played here: what its socket was asked is done, and the request that wakes the machine waits meanwhile."""
    clone.settings["fly"] |= {"auto_stop": "suspend", "idle_minutes": 0.2}
    clone.write()
    told = clone.invoke("prefect.setup").stderr
    assert "the machine suspends itself after 0.2 minutes without a request" in told
    assert "only an outside request wakes it" in told
    assert clone.flyctl("machine", "list").count('"started"') == 1

    def asked() -> list[str]:
        return docker("exec", clone.container, "sh", "-c", "cat /.fly/asked 2>/dev/null || true").split()

    with clone.client("sleep") as api:
        flow = api.post("/flows/", json={"name": "long"}).json()["id"]
        run = api.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "RUNNING"}}).json()["id"]
        _awake(asked, "a worker elsewhere asks for work")
        outside.terminate()
        outside.wait(60)
        _awake(asked, "a run goes on")
        soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        due = {"type": "SCHEDULED", "state_details": {"scheduled_time": soon}}
        later = api.post("/flow_runs/", json={"flow_id": flow, "state": due}).json()["id"]
        _set(api, run, "COMPLETED")
        _awake(asked, "a run is due")
        deferred = api.post("/task_runs/", json={"task_key": "t", "dynamic_key": "1", "state": DEFERRED})
        _set(api, later, "CANCELLED")
        _awake(asked, "a deferred task waits for its worker")
        header = {"Authorization": api.headers["Authorization"]}
        address = f"{clone.url}/prefect/api/events/in".replace("http", "ws", 1)
        with connect(address, additional_headers=header):
            api.delete(f"/task_runs/{deferred.json()['id']}").raise_for_status()
            _awake(asked, "a socket is open")
        end = time.monotonic() + 60
        while not asked():
            assert time.monotonic() < end, docker("logs", "--tail", "30", clone.container)
            time.sleep(0.5)
        machine = clone.machine["id"]
        assert asked() == [f"/v1/apps/{clone.app}/machines/{machine}/suspend"]

        clone.flyctl("machine", "suspend", machine)
        with ThreadPoolExecutor(5) as pool:
            waking = [pool.submit(api.get, "/ready") for _ in range(5)]
            time.sleep(3)
            assert not [each for each in waking if each.done()]
            clone.flyctl("machine", "start", machine)
            assert [each.result().status_code for each in waking] == [200] * 5
        assert api.get(f"/flow_runs/{run}").json()["state_type"] == "COMPLETED"
        assert len(asked()) == 1, "whatever woke it gets as long as everybody"


def test_only_the_one_that_asks_fly_is_root_s(clone: Fly, docker: Docker) -> None:
    shown = docker("top", clone.container, "-eo", "pid,uid,args").splitlines()[1:]
    roots = [line.split(maxsplit=2)[2] for line in shown if line.split()[1] == "0"]
    ours = [line for line in roots if "socketserver" not in line]
    assert [line.split()[-2:] for line in ours] == [["/platform/machine/sleep.py", "ask"]], roots
    # Nor may it do what root may: it is root's by name, for the socket.
    script = "for each in /proc/[0-9]*; do tr '\\0' ' ' <$each/cmdline 2>/dev/null | grep -q '[s]leep.py ask' && grep CapEff $each/status; done; true"
    assert docker("exec", clone.container, "sh", "-c", script).split() == ["CapEff:", "0" * 16]


def _awake(asked: Callable[[], list[str]], why: str) -> None:
    time.sleep(15)  # idle_minutes, and more
    assert asked() == [], why


def _set(api: httpx.Client, run: str, state: str) -> None:
    api.post(f"/flow_runs/{run}/set_state", json={"state": {"type": state}, "force": True}).raise_for_status()
