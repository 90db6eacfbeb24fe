"""The few calls of Prefect's REST API that we use, without Prefect (bodies: facts of Prefect 3.8.8)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from prefect_platform.errors import PlatformError
from prefect_platform.http_client import Trust, bearer, client_for

Json = dict[str, Any]
EVENTS_PAGE = 50  # the same of events
PAGE = 200  # the server's default and greatest page size
RETRIED = {502, 503}
_REFUSED = "./invoke prefect.setup renews the platform's token, or says that something else answers at platform.gateway.public_url"


class ApiError(PlatformError):
    """The API refused or did not answer; `status` is None when there was no answer."""

    def __init__(self, message: str, status: int | None = None, hint: str = "") -> None:
        self.status = status
        super().__init__(message, hint)


class PrefectApi:
    """A client of one server. Every method raises ApiError (method, path, status, start of the body).

    `base_url` ends in the API's path (`http://127.0.0.1:8080/prefect/api`); `timeout` is seconds per request;
    502, 503 and broken connections are tried again for at most `retry_seconds` in all.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: float = 10.0,
        retry_seconds: float = 10.0,
        trust: Trust = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._retry_seconds = retry_seconds
        self._client = client_for(base_url, timeout, bearer(token), trust)

    def __repr__(self) -> str:
        return f"PrefectApi({self.base_url!r})"

    def __enter__(self) -> PrefectApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def ready(self) -> None:
        """Returns when process and database answer."""
        self._call("GET", "/ready")

    def version(self) -> str:
        return str(self._call("GET", "/admin/version"))

    # -- work pools
    def work_pools(self) -> list[Json]:
        return self._pages("/work_pools/filter", {})

    def work_pool(self, name: str) -> Json | None:
        return self._maybe(f"/work_pools/{_part(name)}")

    def create_work_pool(self, body: Mapping[str, Any]) -> Json:
        # An empty template is filled in by the first worker of the pool.
        created: Json = self._call("POST", "/work_pools/", {"base_job_template": {}, **body})
        return created

    def update_work_pool(self, name: str, body: Mapping[str, Any]) -> None:
        self._call("PATCH", f"/work_pools/{_part(name)}", body)

    def queues(self, pool: str) -> list[Json]:
        return self._pages(f"/work_pools/{_part(pool)}/queues/filter", {})

    def create_queue(self, pool: str, body: Mapping[str, Any]) -> None:
        self._call("POST", f"/work_pools/{_part(pool)}/queues", body)

    def update_queue(self, pool: str, name: str, body: Mapping[str, Any]) -> None:
        self._call("PATCH", f"/work_pools/{_part(pool)}/queues/{_part(name)}", body)

    def workers(self, pool: str) -> list[Json]:
        return self._pages(f"/work_pools/{_part(pool)}/workers/filter", {})

    def pool_slots(self, pool: str) -> Json:
        """`active_slots` of the pool and, under `queues`, of each queue, whether they have limits or not."""
        found: Json = self._call(
            "POST", f"/work_pools/{_part(pool)}/concurrency_status", {"flow_run_limit": 0}
        )
        return found

    # -- limits, automations, deployments, runs
    def global_limits(self) -> list[Json]:
        return self._pages("/v2/concurrency_limits/filter", {})

    def create_global_limit(self, body: Mapping[str, Any]) -> None:
        self._call("POST", "/v2/concurrency_limits/", body)

    def update_global_limit(self, name: str, body: Mapping[str, Any]) -> None:
        self._call("PATCH", f"/v2/concurrency_limits/{_part(name)}", body)

    def automations(self, name: str) -> list[Json]:
        """All that have exactly this name (names are not unique), oldest first."""
        found = self._pages("/automations/filter", {"automations": {"name": {"any_": [name]}}})
        return sorted((each for each in found if each["name"] == name), key=lambda each: str(each["created"]))

    def delete_automation(self, ident: str) -> None:
        try:
            self._call("DELETE", f"/automations/{ident}")
        except ApiError as error:
            if error.status != 404:  # deleted by a call whose answer was lost
                raise

    def deployment(self, flow: str, name: str) -> Json | None:
        return self._maybe(f"/deployments/name/{_part(flow)}/{_part(name)}")

    def put_deployment(self, flow: str, body: Mapping[str, Any]) -> Json:
        """Create or update: the server takes a deployment of the same flow and name as an update."""
        flow_id = self._call("POST", "/flows/", {"name": flow})["id"]
        stored: Json = self._call("POST", "/deployments/", {"flow_id": flow_id, **body})
        return stored

    def create_flow_run(self, deployment_id: str, idempotency_key: str) -> Json:
        body = {"parameters": {}, "idempotency_key": idempotency_key}
        created: Json = self._call("POST", f"/deployments/{deployment_id}/create_flow_run", body)
        return created

    def flow_run(self, ident: str) -> Json:
        found: Json = self._call("GET", f"/flow_runs/{ident}")
        return found

    def flow_runs(self, body: Mapping[str, Any]) -> list[Json]:
        """One page, as filtered, sorted and limited by `body`."""
        found: list[Json] = self._call("POST", "/flow_runs/filter", body)
        return found

    def task_runs(self, body: Mapping[str, Any]) -> list[Json]:
        """One page, as filtered, sorted and limited by `body`."""
        found: list[Json] = self._call("POST", "/task_runs/filter", body)
        return found

    def task_workers(self) -> list[Json]:
        """Those that are connected now: `identifier`, `task_keys`."""
        found: list[Json] = self._call("POST", "/task_workers/filter", {})
        return found

    def count_flow_runs(self, body: Mapping[str, Any]) -> int:
        """How many are filtered by `body`."""
        return int(self._call("POST", "/flow_runs/count", body))

    def newest_events(self, event: str, resources: Sequence[str]) -> dict[str, Json]:
        """The newest event of this name of each resource that has one."""
        found: dict[str, Json] = {}
        for start in range(0, len(resources), EVENTS_PAGE):
            of = {"id": list(resources[start : start + EVENTS_PAGE]), "distinct": True}
            body = {"filter": {"event": {"name": [event]}, "resource": of}, "limit": EVENTS_PAGE}
            for each in self._call("POST", "/events/filter", body)["events"]:
                found[each["resource"]["prefect.resource.id"]] = each
        return found

    def last_events(self, event: str, resource: str, number: int) -> list[Json]:
        """The newest events of this name of one resource, newest first."""
        of = {"event": {"name": [event]}, "resource": {"id": [resource]}}
        found: list[Json] = self._call("POST", "/events/filter", {"filter": of, "limit": number})["events"]
        return found

    def deployments(self, limit: int) -> list[Json]:
        """Those that were changed last."""
        body = {"sort": "UPDATED_DESC", "limit": limit}
        found: list[Json] = self._call("POST", "/deployments/filter", body)
        return found

    def planned_runs(self, deployment: str) -> int:
        """How many runs of a deployment wait for their time."""
        runs = {"state": {"type": {"any_": ["SCHEDULED"]}}}
        body = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": runs}
        return int(self._call("POST", "/flow_runs/count", body))

    def cancel_flow_run(self, ident: str, why: str) -> None:
        state = {"type": "CANCELLED", "message": why}
        self._call("POST", f"/flow_runs/{ident}/set_state", {"state": state, "force": True})

    def completed_task_runs(self, flow_run_id: str) -> int:
        of_run = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
        done = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        return int(self._call("POST", "/task_runs/count", {**of_run, **done}))

    def last_logs(self, flow_run_id: str, lines: int) -> list[str]:
        """The run's newest log messages, oldest of them first."""
        body = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_DESC", "limit": lines}
        return [str(each["message"]) for each in reversed(self._call("POST", "/logs/filter", body))]

    # -- transport
    def _pages(self, path: str, body: Mapping[str, Any]) -> list[Json]:
        found: list[Json] = []
        while True:
            page = self._call("POST", path, {**body, "limit": PAGE, "offset": len(found)})
            found.extend(page)
            if len(page) < PAGE:
                return found

    def _maybe(self, path: str) -> Json | None:
        try:
            found: Json = self._call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """All calls may be repeated after a lost answer: they say what is to be there, or have a key."""
        deadline, pause = time.monotonic() + self._retry_seconds, 0.1
        while True:
            try:
                return self._once(method, path, body)
            except ApiError as error:
                if not _passing(error) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        what = f"{method} {urlsplit(self.base_url).path}{path}"
        try:
            answer = self._client.request(method, self.base_url + path, json=body)
        except httpx.RequestError as error:
            raise _lost(what, error) from None
        if not answer.is_success:
            said = f"{what}: {answer.status_code} {answer.text[:300].strip()}".rstrip()
            raise ApiError(said, answer.status_code, _REFUSED if answer.status_code == 401 else "")
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise ApiError(f"{what}: not JSON: {answer.text[:300].strip()}", answer.status_code) from None


def _lost(what: str, error: Exception) -> ApiError:
    if isinstance(error, httpx.ConnectError):
        return ApiError(f"{what}: no connection ({error})")
    return ApiError(f"{what}: no answer ({type(error).__name__}{f': {error}' if str(error) else ''})")


def _passing(error: ApiError) -> bool:
    """Whether trying again may help."""
    return error.status is None or error.status in RETRIED


def _part(name: str) -> str:
    return quote(name, safe="")
