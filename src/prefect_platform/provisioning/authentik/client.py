"""One request to Authentik's API, and what its answer means to the person who waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.http_client import Trust, bearer, client_for
from prefect_platform.secretstore.store import Secret

Json = dict[str, Any]
PAGE_SIZE = 100
_RETRY_SECONDS = 15.0
_PAUSE = 0.5


class AuthentikError(PlatformError):
    """Authentik refused, or did not answer; `status` is None when there was no answer."""

    def __init__(self, message: str, status: int | None = None, hint: str = "") -> None:
        self.status = status
        super().__init__(message, hint)

    @property
    def lost(self) -> bool:
        """Whether a write may have happened all the same: it must be looked at before it is repeated."""
        return self.status is None or self.status >= 500


class Api:
    """A client of one Authentik. `url` has no path (`https://sso.example.com`). Every method raises AuthentikError, with the messages
    of the fields; reading is repeated for `_RETRY_SECONDS` when there is no good answer, writing never.
    """

    def __init__(self, url: str, token: Secret | None, trust: Trust = None) -> None:
        self.url = url.rstrip("/")
        self._client = client_for(self.url, 15.0, bearer(token.value if token else None), trust)

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """The answer's JSON; None where there is nothing."""
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            try:
                return self._call("GET", path, params=_wire(params))
            except AuthentikError as error:
                if error.status == 404:
                    return None
                if not error.lost or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE)

    def pages(self, path: str, **params: Any) -> Iterator[Json]:
        """All objects of a list. `next` is a page's number; 0 is none."""
        page = 1
        while page:
            answer = self.get(path, **params, page=page, page_size=PAGE_SIZE)
            yield from answer["results"] if answer else ()
            page = int(answer["pagination"]["next"]) if answer else 0

    def write(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._call(method, path, json=None if body is None else dict(body))

    def _call(self, method: str, path: str, **options: Any) -> Any:
        what = f"Authentik at {self.url}: {method} {path}"
        try:
            answer = self._client.request(method, f"/api/v3{path}", **options)
        except httpx.RequestError as error:
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise AuthentikError(f"{what}: no answer ({said})", None, _UP) from None
        if answer.is_success:
            return _json(what, answer) if answer.content else None
        raise _refused(what, answer)


_UP = "is it up? ./invoke authentik.status; then ./invoke authentik.setup (or platform.authentik.url)"
_TOKEN = "pass a valid one: AUTHENTIK_TOKEN=… ./invoke …; ./invoke authentik.setup makes the platform's own"  # noqa: S105 - a text
_RIGHTS = "a token of an administrator may: AUTHENTIK_TOKEN=… ./invoke …; docs/sso.md lists what ours may do"


def part(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _wire(params: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in params.items()
    }


def _json(what: str, answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise AuthentikError(
            f"{what}: not JSON: {answer.text[:200].strip()}",
            answer.status_code,
            "check that this is Authentik's address",
        ) from None


def _refused(what: str, answer: httpx.Response) -> PlatformError:
    said = _said(answer)
    if answer.status_code in (401, 403):
        # A wrong token and a missing right are both 403; the text tells them apart.
        right = "permission" in said
        kind = "the token may not do this" if right else "the token is missing, invalid or expired"
        return Forbidden(f"{what}: {kind} ({said})", answer.status_code, _RIGHTS if right else _TOKEN)
    return AuthentikError(f"{what}: {answer.status_code} {said}".rstrip(), answer.status_code)


class Forbidden(AuthentikError, ConfigError):
    """The token is wrong, or may not do this."""

    exit_code = ConfigError.exit_code


def _said(answer: httpx.Response) -> str:
    """The messages of the fields, or the start of the body."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:200].strip()
    return "; ".join(_lines(body)) or str(body)


def _lines(body: Any, field: str = "") -> Iterator[str]:
    if isinstance(body, Mapping):
        for name, value in body.items():
            yield from _lines(
                value,
                field if name in ("detail", "non_field_errors") else f"{field}{'.' if field else ''}{name}",
            )
    elif isinstance(body, list):
        for each in body:
            yield from _lines(each, field)
    else:
        yield f"{field}: {body}" if field else str(body)
