"""What the checks try, a function each: it returns what it saw or raises PlatformError: what is wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit

import httpx

from prefect_platform.checks.spec import CheckSpec
from prefect_platform.errors import CheckFailed
from prefect_platform.http_client import bearer, described
from prefect_platform.provisioning.prefect.api import ApiError, Json, PrefectApi
from prefect_platform.provisioning.prefect.heartbeat import is_online, seconds_since

# Prefect marks a run Late 15 s after its time, looking every 5 s, and a pool NOT_READY by looking every 15 s:
# what is this much later still unmarked is work that the background services did not do.
SERVICES_GRACE = 60.0
WORKER_ENDED = "platform.worker.ended"
"""Of a worker's successor (stacks/prefect/worker_ended.py)."""
COUNTED = 50
DAY = 86400.0
REDELIVERED_WITHIN = 480.0
"""Seconds. pydocket 0.27 takes what another worker left behind after 300 s, and looks for it each 75 s or so."""


# -- the gateway
def ping(spec: CheckSpec, client: httpx.Client) -> str:
    answer = _get(client, spec.ping_path)
    if answer.status_code != 200:
        raise CheckFailed(
            f"GET {spec.ping_path}: {_seen(answer)}, expected 200", "./invoke prefect.logs --service gateway"
        )
    return "200 without a token"


def refuses_strangers(spec: CheckSpec, client: httpx.Client) -> str:
    """A call of the API without a token is answered 401."""
    path = f"{spec.api_path}/admin/version"
    answer = _get(client, path, accept="application/json")
    if answer.status_code != 401:
        hint = "do not expose this gateway until this is fixed: ./invoke prefect.logs --service verifier"
        raise CheckFailed(f"GET {path} without a token: {_seen(answer)}, expected 401", hint)
    return "401 without a token"


def ui(spec: CheckSpec, client: httpx.Client) -> str:
    """Page and script load, and the page calls an API address that a browser at the public URL reaches."""
    settings = _ui_settings(spec, client)
    if urljoin(spec.public_url + spec.ui_path + "/", settings["api_url"]).rstrip("/") != spec.api_url:
        raise CheckFailed(
            f"the UI calls {settings['api_url']}, which from {spec.public_url} is not {spec.api_url}",
            f"PREFECT_SERVER_UI_API_URL must be {spec.api_path}",
        )
    base = settings.get(f"{settings['default_ui']}_base_url") or spec.ui_path
    page = _get(client, base.rstrip("/") + "/", spec.token)
    script = _first_script(page)
    if page.status_code != 200 or not script:
        raise CheckFailed(f"GET {base}/: {_seen(page)}, expected a page with a script")
    # By its path: were it on another host, the token would go there.
    loaded = _get(client, urlsplit(urljoin(str(page.url), script)).path, spec.token, "HEAD")
    if loaded.status_code != 200 or "javascript" not in loaded.headers.get("content-type", ""):
        raise CheckFailed(f"HEAD {script}: {_seen(loaded)}, expected the script of the page {base}/")
    return f"{base}/ loads and calls {settings['api_url']}"


def _ui_settings(spec: CheckSpec, client: httpx.Client) -> Json:
    path = f"{spec.ui_path}/ui-settings"
    answer = _get(client, path, spec.token)
    try:
        settings = answer.raise_for_status().json()
        return {**settings, "api_url": str(settings["api_url"]), "default_ui": str(settings["default_ui"])}
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
        raise CheckFailed(f"GET {path}: {_seen(answer)}, expected the settings of Prefect's UI") from None


def _first_script(page: httpx.Response) -> str:
    for piece in page.text.split("<script")[1:]:
        tag = piece.split(">", 1)[0]
        if 'src="' in tag:
            return tag.split('src="', 1)[1].split('"', 1)[0]
    return ""


# -- Prefect
def ready(api: PrefectApi) -> str:
    api.ready()
    return "server and database answer"


def version(spec: CheckSpec, api: PrefectApi) -> str:
    running = api.version()
    if running != spec.version:
        raise CheckFailed(f"Prefect {running} is running, expected {spec.version}", "./invoke prefect.setup")
    return f"Prefect {running}"


def workers(spec: CheckSpec, api: PrefectApi) -> str:
    """Each configured worker by name: a pool is READY as long as any of its workers lives."""
    seen = {pool: {str(each["name"]): each for each in _workers_of(api, pool)} for pool, _ in spec.workers}
    down = [text for pool, name in spec.workers if (text := _why_down(pool, name, seen[pool].get(name)))]
    if down:
        raise CheckFailed("; ".join(down), "./invoke prefect.logs --service worker")
    return ", ".join(f"{name} in {pool}{_ended(api, pool, name)}" for pool, name in spec.workers)


def _ended(api: PrefectApi, pool: str, name: str) -> str:
    """How often it ended by itself, and why last: whoever starts it again hides that."""
    found = api.last_events(WORKER_ENDED, f"platform.worker.{pool}.{name}", COUNTED)
    recent = [each for each in found if seconds_since(each["occurred"]) < DAY]
    if not recent:
        return ""
    times = f"{len(recent)}{'+' if len(recent) == COUNTED else ''} times"
    last = f"{seconds_since(recent[0]['occurred']) / 60:.0f} min ago: {recent[0]['payload'].get('cause')}"
    return f" (ended by itself {times} in a day, last {last})"


def _workers_of(api: PrefectApi, pool: str) -> list[Json]:
    try:
        return api.workers(pool)
    except ApiError as error:
        if error.status == 404:
            raise CheckFailed(f"work pool {pool} does not exist", "./invoke prefect.setup") from None
        raise


def _why_down(pool: str, name: str, worker: Json | None) -> str:
    if worker is None:
        return f"worker {name} has never reported to pool {pool}"
    age = seconds_since(worker["last_heartbeat_time"])
    return "" if is_online(worker) else f"worker {name} of pool {pool}: last heartbeat {age:.0f} s ago"


def services(api: PrefectApi, grace: float = SERVICES_GRACE) -> str:
    """No work of the background services is overdue. Prefect 3.8.8 on SQLite shows nothing else of them.

    It proves only the absence of a contradiction: a loop that hangs while nothing is due is not detected.
    """
    if overdue := _overdue(api, grace):
        overdue = _overdue(api, REDELIVERED_WITHIN) or overdue
    if overdue and not _straggler(api, overdue):
        age = seconds_since(overdue["expected_start_time"])
        raise CheckFailed(
            f"run {overdue['name']} was due {age:.0f} s ago and is not marked Late: "
            "the background services are not running",
            "./invoke prefect.restart --service server",
        )
    for pool in api.work_pools():
        if pool["status"] == "READY" and not any(
            is_online(each, grace) for each in api.workers(pool["name"])
        ):
            raise CheckFailed(
                f"pool {pool['name']} is READY without a live worker: the background services are not running",
                "./invoke prefect.restart --service server",
            )
    return "no overdue work"


def _overdue(api: PrefectApi, grace: float) -> Json | None:
    """Of the runs that should have been marked Late, the one that was due last."""
    before = datetime.fromtimestamp(time.time() - grace, UTC).isoformat()
    wanted = {"state": {"name": {"any_": ["Scheduled"]}}, "expected_start_time": {"before_": before}}
    found = api.flow_runs({"flow_runs": wanted, "sort": "EXPECTED_START_TIME_DESC", "limit": 1})
    return found[0] if found else None


def _straggler(api: PrefectApi, run: Json) -> bool:
    """Whether a run that was due later has been marked Late: then the services run, and this one they had in hand
    when they were ended last. pydocket gives that up to those who come after them.
    """
    if seconds_since(run["expected_start_time"]) > REDELIVERED_WITHIN:
        return False
    later = {
        "state": {"name": {"any_": ["Late"]}},
        "expected_start_time": {"after_": run["expected_start_time"]},
    }
    return bool(api.flow_runs({"flow_runs": later, "limit": 1}))


# -- small things
def _get(
    client: httpx.Client,
    path: str,
    token: str | None = None,
    method: str = "GET",
    accept: str = "text/html,*/*",
) -> httpx.Response:
    headers = {"Accept": accept, **bearer(token)}
    try:
        return client.request(method, path, headers=headers)
    except httpx.RequestError as error:
        hint = "./invoke prefect.setup starts it"
        raise CheckFailed(
            f"{method} {path}: no answer from {client.base_url} ({described(error)})", hint
        ) from None


def _seen(answer: httpx.Response) -> str:
    return f"{answer.status_code} {' '.join(answer.text[:200].split())}".strip()
