"""The VPS target in the lab, over real ssh: from an empty host to a flow run, and what must hold of what then stands there.

The tests build on each other in the order of the file: one platform serves them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_platform_lab import LabHost
from tests.local import doors

from . import inventory, proofs
from .conftest import Docker
from .vps import Vps, containers, secrets

pytestmark = pytest.mark.timeout(900)


def test_a_first_setup_does_what_the_plan_showed(vps: Vps, docker: Docker, ssh: Callable[..., str]) -> None:
    planned = inventory.planned(vps.invoke("platform.plan", "--json").stdout)
    before = inventory.take(vps, docker, ssh)
    assert [name for name in before if not name.startswith("image ")] == []  # a plan touches nothing
    assert {
        "prefect-server",
        "database prefect",
        "role prefect",
        "secret prefect/PREFECT_SERVER_ENCRYPTION_KEY",
        "AppRole platform-lab.prefect",
        "token platform/checks",
        "work pool default",
        "deployment platform-canary/canary",
    } <= planned
    _set_up(vps, docker)
    assert inventory.changed(before, inventory.take(vps, docker, ssh)) == planned


def _set_up(vps: Vps, docker: Docker) -> None:
    alone = vps.invoke("prefect.setup", code=3)
    assert "needs vault" in alone.stderr
    assert "./invoke vault.setup --env lab" in alone.stderr
    done = vps.invoke("prefect.setup", "--with-needs")
    assert "recovery key 1" in done.stderr
    canary = next(line for line in done.stdout.splitlines() if " canary " in line)
    assert canary.startswith("ok")
    assert "its task run is recorded" in canary
    assert "FAIL" not in done.stdout
    assert {
        "platform-traefik",
        "platform-vault",
        "platform-postgres-lab",
        "platform-prefect-server-lab",
    } <= set(containers(docker))


def test_the_feed_has_the_canarys_events(vps: Vps) -> None:
    wanted = {"filter": {"event": {"name": ["prefect.flow-run.Completed"]}}}
    end = time.monotonic() + 30
    with vps.client() as client:
        # The services write events in batches, some seconds after they came.
        while not client.post("/events/filter", json=wanted).raise_for_status().json()["events"]:
            assert time.monotonic() < end, "the canary's event is not there after half a minute"
            time.sleep(0.5)


def test_a_second_setup_changes_nothing(vps: Vps, docker: Docker) -> None:
    before = {name: each["Id"] for name, each in containers(docker).items()}
    again = vps.invoke("prefect.setup")
    assert "nothing changed" in again.stderr
    assert {name: each["Id"] for name, each in containers(docker).items()} == before
    assert "nothing to do" in vps.invoke("prefect.plan").stdout


def test_every_container_is_locked_down(vps: Vps, docker: Docker) -> None:
    proofs.locked_down(docker)


def test_secrets_show_nowhere(vps: Vps, docker: Docker, ssh: Callable[..., str]) -> None:
    proofs.secrets_show_nowhere(vps, docker, ssh)


def test_redis_keeps_prefect_in_database_1(vps: Vps, docker: Docker) -> None:
    cli = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli'
    run = ["exec", "platform-redis-lab", "/bin/sh", "/platform/entrypoint.sh", "/bin/sh", "-c"]
    assert int(docker(*run, f"{cli} -n 1 dbsize")) > 0
    assert docker(*run, f"{cli} -n 0 dbsize").strip() in ("0", "(integer) 0")


def test_a_role_cannot_read_another_stacks_database(vps: Vps, docker: Docker) -> None:
    program = (
        "import asyncio, asyncpg, os\n"
        "async def main(name):\n"
        "    c = await asyncpg.connect(host='platform-postgres-lab', user='prefect', database=name,"
        " password=os.environ['PREFECT_SERVER_DATABASE_PASSWORD'])\n"
        "    return await c.fetchval('select 1')\n"
        "print(asyncio.run(main('prefect')))\n"
        "for name in ('gateway', 'postgres'):\n"
        "    try: asyncio.run(main(name)); print('let in', name)\n"
        "    except asyncpg.InsufficientPrivilegeError: print('refused', name)\n"
    )
    words = ["exec", "-i", "platform-prefect-server-lab", "/bin/sh", "/platform/entrypoint.sh", "python", "-"]
    assert docker(*words, stdin=program).split() == ["1", "refused", "gateway", "refused", "postgres"]


def test_no_caller_of_the_api_reads_the_redis_password(vps: Vps, docker: Docker) -> None:
    with vps.client() as client:
        shown = client.get("/admin/settings")
        assert shown.status_code == 200
        assert shown.json()["server"]["docket"]["url"].startswith("redis://:********@")
        assert not [value for value in secrets(vps, docker) if value in shown.text]
        assert httpx.get(f"{vps.url}/api/admin/settings").status_code == 401


def test_a_token_that_may_read_changes_nothing(vps: Vps) -> None:
    made = ("gateway.create-token", "--project=tests", "--service=reader", "--scope=prefect:read")
    doors.reader(f"{vps.url}/api", vps.invoke(*made).stdout.strip())


WORKER = {"name": "default", "pool": "default", "poll_seconds": 1}
SECOND = {"name": "second", "pool": "second"}
POOLS = [{"name": "default", "concurrency_limit": 3}, {"name": "second", "queues": [{"name": "urgent"}]}]
NEWER = "prefecthq/prefect:3.8.9-python3.12"
ADDED = {
    "workers": [WORKER, SECOND],
    "work_pools": POOLS,
    "global_concurrency_limits": [{"name": "db", "limit": 3}],
}
CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a setting, and more of everything": (
        ADDED,
        {"prefect-worker", "prefect-worker-second", "work pool default", "global limit db"},
    ),
    "another version, and a service less": (
        ADDED | {"image": NEWER, "workers": [WORKER]},
        {"prefect-migrate", "prefect-server", "-prefect-worker-second"},
    ),
}
"""What changes → the settings of prefect, and some of what that does."""


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_does_what_the_plan_showed(
    vps: Vps, docker: Docker, ssh: Callable[..., str], change: str
) -> None:
    docker("tag", "prefecthq/prefect:3.8.8-python3.12", NEWER)
    vps.settings["prefect"], some = CHANGES[change]
    vps.write()
    planned = inventory.planned(vps.invoke("prefect.plan", "--json").stdout, "prefect")
    before = inventory.take(vps, docker, ssh)
    vps.invoke("prefect.setup")
    assert inventory.changed(before, inventory.take(vps, docker, ssh)) == planned
    assert some <= planned
    assert "nothing to do" in vps.invoke("prefect.plan").stdout


def test_another_published_port_does_what_the_plan_showed(
    vps: Vps, docker: Docker, ssh: Callable[..., str]
) -> None:
    vps.move_to_another_port()
    shown = vps.invoke("platform.plan", "--json").stdout
    planned = inventory.planned(shown)
    before = inventory.take(vps, docker, ssh)
    vps.invoke("platform.setup")
    # Prefect cannot be asked at an address that is yet to be served.
    assert inventory.changed(before, inventory.take(vps, docker, ssh)) == planned - inventory.estimated(shown)
    assert "traefik-gateway" in planned


def test_a_release_that_cannot_work_is_rolled_back(vps: Vps, docker: Docker, ssh: Callable[..., str]) -> None:
    good = ssh("readlink /opt/platform/lab/prefect/current")
    kept = dict(vps.settings["prefect"])
    # Redis' image has no Python: this worker can never start.
    worker = {"name": "default", "pool": "default", "image": "redis:8.10.2"}
    vps.settings["prefect"] = {"workers": [worker]}
    vps.write()
    failed = vps.invoke("prefect.setup", code=6)
    assert "prefect-worker" in failed.stderr
    assert "rolled back to release" in failed.stderr
    assert ssh("readlink /opt/platform/lab/prefect/current") == good
    vps.settings["prefect"] = kept
    vps.write()
    vps.invoke("prefect.setup")
    assert "failed" in vps.invoke("prefect.releases").stdout


def test_a_power_cut_is_survived(vps: Vps, host: LabHost, root: Path) -> None:
    import prefect_platform_lab

    prefect_platform_lab.reboot(root, print, suddenly=True)
    vps.until_well(240)
    assert "Completed" in vps.invoke("prefect.smoke").stdout
