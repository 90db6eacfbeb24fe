"""A volume that is lost: a new one gets the database from the replica, which is behind by about the interval that was declared.

The secrets of this app are in a Vault, a real one, and nowhere in the clone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab.conftest import Docker
from tests.lab.vps import own_address
from tests.local.conftest import free_ports
from tests.storage import BUCKET, KEYS, Storage, new_storage
from tests.vault.conftest import Ready, ready

from .app import Fly, Writer
from .conftest import Launch

__all__ = ["ready"]
pytestmark = pytest.mark.timeout(600)
INTERVAL = 2


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with new_storage(own_address(), free_ports(1)[0]) as made:
        yield made


@pytest.fixture(scope="module")
def fly(launch: Launch, storage: Storage, ready: Ready) -> Fly:
    made = launch("tests-replica")
    made.settings["vault"] = {"address": ready.server.address}
    replica = {"bucket": BUCKET, "endpoint": storage.url, "region": "us-east-1", "interval": f"{INTERVAL}s"}
    made.settings["prefect"] = {"workers": [], "replica": replica}
    made.write()
    return made


def test_a_token_for_vault_and_the_keys_are_asked_for(fly: Fly, ready: Ready) -> None:
    assert "VAULT_TOKEN=…" in fly.invoke("prefect.setup", code=3).stderr
    fly.environ["VAULT_TOKEN"] = ready.token.value
    said = fly.invoke("prefect.setup", code=3).stderr
    assert "read -rs REPLICA_ACCESS_KEY_ID" in said
    assert fly.writes() == []


def test_a_lost_volume_loses_about_an_interval(fly: Fly, docker: Docker, ready: Ready) -> None:
    done = fly.invoke("prefect.setup", environ=KEYS)
    assert KEYS["REPLICA_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    held = {name: secret.value for name, secret in ready.store("fly").read("prefect").items()}
    assert held.items() >= KEYS.items()
    assert "PREFECT_SERVER_ENCRYPTION_KEY" in held
    assert sorted(path.name for path in (fly.state / "secrets").glob("*.json")) == [
        "fly-imported.json",
        "operator.json",
    ]
    assert "nothing changed" in fly.invoke("prefect.setup").stderr
    with fly.client() as api:
        token = dict(api.headers)
        flow = api.post("/flows/", json={"name": "replicated"}).json()["id"]
        writers = [Writer(api, flow) for _ in range(2)]
        for each in writers:
            each.start()
        time.sleep(4 * INTERVAL)
        docker("kill", "-s", "KILL", fly.container)
        killed = time.monotonic()
        for each in writers:
            each.join()
    assert [each.refused for each in writers] == [[], []], "Litestream's locks are waited for"
    acknowledged = {run: when for each in writers for run, when in each.acknowledged.items()}

    # The machine and its volume are gone, and with them the gateway's tokens: theirs is another database.
    docker("rm", "-f", fly.container)
    volume = fly.known()["apps"][fly.app]["volumes"][0]["docker"]
    docker("volume", "rm", volume)
    apps = fly.known()["apps"]
    apps[fly.app] |= {"volumes": [], "machines": []}
    fly.change(apps=apps)
    fly.invoke("prefect.setup")
    assert "restored from the replica" in fly.invoke("prefect.logs", "--service=server", "--lines=200").stdout

    found: set[str] = set()
    with fly.client("after") as api:
        assert dict(api.headers) != token
        while page := api.post("/flow_runs/filter", json={"offset": len(found), "limit": 200}).json():
            found |= {each["id"] for each in page}
    lost = [when for run, when in acknowledged.items() if run not in found]
    behind = killed - min(lost, default=killed)
    print(
        f"{len(lost)} of {len(acknowledged)} lost, the oldest {behind:.2f} s before the end; interval {INTERVAL} s"
    )
    assert len(lost) < len(acknowledged)
    # And the way to the storage, of a machine that has other things to do.
    assert behind < 2 * INTERVAL + 3
