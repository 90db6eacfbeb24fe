"""Better Stack's uptime API: one monitor of ours, created once and corrected after that.

Names and shapes: https://betterstack.com/docs/uptime/api/monitors-api-response-params/ and its Terraform provider
(BetterStackHQ/terraform-provider-better-uptime, resource_monitor.go and data_monitor.go).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx

from prefect_platform.environment import access
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ApplyError, PreflightError
from prefect_platform.secretstore.store import Secret

from .connect import new_token, valid_tokens

API = "https://uptime.betterstack.com"
EVERY_SECONDS = 180
_SUBJECT = "monitor/betterstack"
Json = dict[str, Any]


def ensure(platform: Platform, token: Secret, api: str = API) -> str:
    """The monitor as it should be; returns what was done. Raises PreflightError for a refused token, ApplyError for another answer."""
    headers = {"Authorization": f"Bearer {token.value}"}
    with httpx.Client(base_url=api, headers=headers, timeout=30) as client:
        url, needs_token = _target(platform)
        found = [each for each in _monitors(client) if each["attributes"]["url"] == url]
        if found and not (change := _change(platform, found[0]["attributes"], needs_token)):
            return f"monitor {found[0]['id']} polls {url} every {EVERY_SECONDS} s: nothing changed"
        if found:
            _asked(client, "PATCH", f"/api/v2/monitors/{found[0]['id']}", change)
            return f"monitor {found[0]['id']} of {url} corrected: {', '.join(sorted(change))}"
        made = _asked(client, "POST", "/api/v2/monitors", {"url": url, **_change(platform, {}, needs_token)})
        return f"monitor {made['data']['id']} polls {url} every {EVERY_SECONDS} s"


def _target(platform: Platform) -> tuple[str, bool]:
    """The URL to poll, and whether it takes a token. Where health checks need no token, none is given away."""
    if platform.target.where(platform.main).open_ready:
        return f"{platform.url}/ready", False
    return f"{platform.api_url}/ready", True


def _change(platform: Platform, there: Json, needs_token: bool) -> Json:
    """Attributes that are not as they should be."""
    want: Json = {
        "monitor_type": "status",
        "pronounceable_name": f"Prefect{platform.settings.env_suffix}",
        "check_frequency": EVERY_SECONDS,
    }
    change = {name: value for name, value in want.items() if there.get(name) != value}
    if needs_token and not _holds_valid(platform, there):
        old = [each for each in there.get("request_headers") or () if each["name"] == "Authorization"]
        gone = [{"id": each["id"], "_destroy": "true"} for each in old]
        value = f"Bearer {new_token(platform, _SUBJECT)}"
        change["request_headers"] = [{"name": "Authorization", "value": value}, *gone]
    return change


def _holds_valid(platform: Platform, there: Json) -> bool:
    for each in there.get("request_headers") or ():
        found = re.fullmatch(r"Bearer ([\w.-]+)", str(each["value"]))
        if each["name"] == "Authorization" and found:
            return access.part(found[1], 1).get("jti") in valid_tokens(platform, _SUBJECT)
    return False


def _monitors(client: httpx.Client) -> Iterator[Json]:
    page = 1
    while True:
        found = _asked(client, "GET", f"/api/v2/monitors?page={page}")
        yield from found["data"]
        if not found["pagination"].get("next"):
            return
        page += 1


def _asked(client: httpx.Client, method: str, path: str, body: Json | None = None) -> Json:
    try:
        answer = client.request(method, path, json=body)
    except httpx.TransportError as error:
        raise ApplyError(f"Better Stack: {error}", "run it again") from None
    if answer.status_code in (401, 403):
        raise PreflightError(
            "Better Stack rejects the token",
            "BETTERSTACK_API_TOKEN: Better Stack → API tokens → Uptime",
        )
    if not answer.is_success:
        raise ApplyError(
            f"Better Stack: {method} {path}: {answer.status_code} {answer.text[:300]}", "run it again"
        )
    return dict(json.loads(answer.text))
