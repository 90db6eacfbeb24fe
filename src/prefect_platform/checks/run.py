"""The proof: what a client does, done through the public route. Shared by setup, status and smoke."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from prefect_platform.checks.check import Check, Warns
from prefect_platform.errors import PlatformError
from prefect_platform.http_client import client_for
from prefect_platform.provisioning.prefect.api import PrefectApi

from . import canary, deferred, events, probes, runs, schedules, sso, tokens
from .one_look import OneLook
from .spec import CheckSpec

__all__ = ["Check", "CheckSpec", "canary_check", "outcome", "wait_for_checks"]

Probe = Callable[[], str]
Progress = Callable[[str], None]
Names = Collection[str]
PAUSE = 0.2
STATUS_HINT = "./invoke prefect.logs shows why"
LAST_CANARY = "canary (last)"


def _quiet(text: str) -> None:
    pass


def wait_for_checks(
    spec: CheckSpec,
    seconds: float,
    canary_seconds: float | None = None,
    progress: Progress = _quiet,
    only: Names = (),
) -> list[Check]:
    """Every check at once; `only` selects by name. What is red (but a past canary run) is asked again for `seconds`: the last outcomes.
    Never raises for what a probe finds.

    With `canary_seconds` a new canary run follows, if the rest is green, instead of a look at the last one.
    """
    deadline = time.monotonic() + seconds
    latest = {check.name: check for check in _quick(spec, only, canary_seconds is None)}
    while red := [name for name, check in latest.items() if not check.ok and name != LAST_CANARY]:
        if time.monotonic() + PAUSE > deadline:
            break
        time.sleep(PAUSE)
        latest |= {check.name: check for check in _quick(spec, red, False)}
    found = list(latest.values())
    if canary_seconds is None or spec.canary is None:
        return found
    if red:
        untried = "skipped: earlier checks failed"
        return [*found, Check("canary", False, untried, 0.0, f"fix first: {', '.join(red)}")]
    return [*found, canary_check(spec, canary_seconds, progress)]


def _quick(spec: CheckSpec, only: Names, past_canary: bool) -> list[Check]:
    with _session(spec) as (client, api):
        todo = {name: probe for name, probe in _probes(spec, client, api).items() if not only or name in only}
        if not past_canary:
            todo.pop(LAST_CANARY, None)
        with ThreadPoolExecutor(max_workers=max(1, len(todo))) as pool:
            return list(pool.map(lambda each: outcome(*each), todo.items()))


def canary_check(spec: CheckSpec, seconds: float, progress: Progress = _quiet) -> Check:
    """Run the canary: Completed within `seconds`, task run recorded. `progress` hears of each new state."""
    if spec.canary is None:
        raise ValueError("no canary deployment is configured")
    with PrefectApi(spec.api_url, spec.token, spec.timeout, min(10.0, seconds), spec.trust) as api:
        return outcome("canary", partial(canary.run, api, *spec.canary, seconds, progress, spec.slots))


def outcome(name: str, probe: Probe) -> Check:
    """Run one probe and time it."""
    start, warn = time.monotonic(), False
    try:
        ok, detail, hint = True, probe(), ""
    except PlatformError as error:
        ok = warn = isinstance(error, Warns)
        detail, hint = error.reason, error.hint or STATUS_HINT
    return Check(name, ok, detail, time.monotonic() - start, hint, warn)


class _session:
    """One client without a token and one API for all probes of a run; nothing is repeated inside a probe."""

    def __init__(self, spec: CheckSpec) -> None:
        self._client = client_for(spec.public_url, spec.timeout, {}, spec.trust)
        self._api = OneLook(spec.api_url, spec.token, spec.timeout, 0, spec.trust)

    def __enter__(self) -> tuple[httpx.Client, PrefectApi]:
        return self._client, self._api

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._api.close()


def _probes(spec: CheckSpec, client: httpx.Client, api: PrefectApi) -> dict[str, Probe]:
    tried: dict[str, Probe] = {
        "ping": partial(probes.ping, spec, client),
        "refuses": partial(probes.refuses_strangers, spec, client),
        "ready": partial(probes.ready, api),
        "version": partial(probes.version, spec, api),
        "ui": partial(probes.ui, spec, client),
        "events": partial(events.events, spec),
        "events refuses": partial(events.events_refuse_strangers, spec),
        "services": partial(probes.services, api),
        "schedules": partial(schedules.schedules, api),
        "tokens": partial(tokens.tokens, spec, client),
        "deferred": partial(deferred.deferred, api),
        "runs": partial(runs.runs, api, spec.services),
    }
    if spec.sso_url:
        tried["sso"] = partial(sso.sso, spec, client)
    if spec.workers:
        tried["workers"] = partial(probes.workers, spec, api)
    if spec.canary:
        tried[LAST_CANARY] = partial(canary.last, api, *spec.canary)
    return tried
