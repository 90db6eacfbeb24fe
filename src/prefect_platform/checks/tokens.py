"""Tokens that are in use and end soon: their clients would be refused, and nobody had been warned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from prefect_platform.checks.check import Warns
from prefect_platform.checks.spec import CheckSpec
from prefect_platform.errors import CheckFailed
from prefect_platform.http_client import bearer, described

PATH = "/auth/tokens"
OWN = "platform/checks"
"""Our own token, which is renewed in time without anybody's doing."""
_DAY = 86400
_RENEW = (
    "create another with ./invoke gateway.create-token (or prefect.connect, monitor.create: docs/gateway.md), give it to its client, "
    "then ./invoke gateway.revoke-token ID"
)


def tokens(spec: CheckSpec, client: httpx.Client) -> str:
    """Raises Warns, naming them."""
    try:
        answer = client.get(PATH, headers=bearer(spec.token))
    except httpx.RequestError as error:
        hint = "./invoke prefect.setup starts it"
        raise CheckFailed(
            f"GET {PATH}: no answer from {client.base_url} ({described(error)})", hint
        ) from None
    if answer.status_code in (401, 403) or answer.status_code >= 500:
        hint = "./invoke prefect.logs --service verifier"
        raise CheckFailed(f"GET {PATH}: {answer.status_code}: which tokens end soon is not known", hint)
    found = _ending(answer)
    if found is None:
        return "not known: the gateway is of an earlier release"
    if told := [_described(each) for each in found if each["subject"] != OWN]:
        raise Warns("; ".join(told), _RENEW)
    return "none that is in use ends within 14 days"


def _ending(answer: httpx.Response) -> Sequence[Mapping[str, Any]] | None:
    """None from a gateway that does not have the route, whose answer then is a page of another."""
    try:
        return list(answer.json()["ending"]) if answer.status_code == 200 else None
    except (ValueError, KeyError, TypeError):
        return None


def _described(token: Mapping[str, Any]) -> str:
    return f"{token['subject']} ({token['id']}), last used {_ago(token['last_used'])}, ends in {_span(token['ends_in'])}"


def _ago(seconds: int) -> str:
    return "today" if seconds < _DAY else f"{_span(seconds)} ago"


def _span(seconds: int) -> str:
    days, hours = seconds // _DAY, seconds // 3600
    if days >= 2:
        return f"{days} days"
    return f"{hours} hours" if hours >= 2 else f"{max(1, seconds // 60)} minutes"
