"""What this process knows of issued tokens: which are live, kept current by one cheap query a second."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from prefect_platform.gateway.errors import GatewayError, Refused, StoreUnavailable
from prefect_platform.gateway.store import Store
from prefect_platform.gateway.tokens import Claims, granted

POLL_SECONDS = 1.0
RELOAD_SECONDS = 60.0
FLUSH_SECONDS = 30.0
# Look-ups of validly signed tokens that memory does not know: just created, deleted or revoked.
LOOKUPS_PER_SECOND = 20
_MAX_MISSES = 1024

log = logging.getLogger("gateway")


class Registry:
    def __init__(self, store: Store, max_stale_seconds: float) -> None:
        self._store = store
        self._max_stale = max_stale_seconds
        self._live: dict[str, Claims] = {}
        self._misses: dict[str, float] = {}
        self._used: dict[str, int] = {}
        self._fingerprint: tuple[Any, ...] = ()
        self._read_at: float | None = None
        self._reloaded_at = float("-inf")
        self._failure = ""
        self._allowance = float(LOOKUPS_PER_SECOND)
        self._allowance_at = time.monotonic()
        # Reading and applying must not interleave: an older answer would undo a newer revocation.
        self._reading = asyncio.Lock()

    @property
    def age_seconds(self) -> float | None:
        """How old our knowledge is; None before the first successful read."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    async def require_live(self, presented: Claims) -> Claims:
        """What the token's record grants it, if the record is neither revoked nor expired. Notes the use.

        Raises Refused, or StoreUnavailable when it cannot be decided.
        """
        if self._read_at is None or time.monotonic() - self._read_at > self._max_stale:
            raise StoreUnavailable("the token database cannot be read")
        jti, now = presented.jti, time.time()
        recorded = self._live.get(jti) or await self._look_up(jti)
        if recorded is None or recorded.expires_at <= now:
            raise Refused
        allowed = granted(presented, recorded)
        self._used[jti] = int(now)
        return allowed

    async def forget(self, jti: str) -> None:
        """After this process revoked it: in effect at once, without waiting for the next poll."""
        async with self._reading:
            self._live.pop(jti, None)
            self._note_miss(jti)

    async def refresh(self) -> None:
        """One poll. Keeps what is known when the store cannot be read; age_seconds then grows."""
        async with self._reading:
            started, now = time.monotonic(), int(time.time())
            try:
                if self._read_at is None:
                    await self._store.prepare()
                fingerprint = await self._store.fingerprint(now)
                if fingerprint != self._fingerprint or started - self._reloaded_at > RELOAD_SECONDS:
                    self._live = await self._store.live(now)
                    self._fingerprint, self._reloaded_at = fingerprint, started
            except GatewayError as error:
                self._failed(str(error))
            else:
                self._read_at = started
                self._recovered()

    async def flush(self) -> None:
        """Writes last_used_at; keeps it for the next time when that is not possible."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.mark_used(used)
        except GatewayError as error:
            self._used = {**used, **self._used}
            log.warning("last_used_at not yet written: %s", error)

    async def run(self) -> None:
        """Polls and flushes until cancelled."""
        flushed = time.monotonic()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()
            if time.monotonic() - flushed > FLUSH_SECONDS:
                flushed = time.monotonic()
                await self.flush()

    async def _look_up(self, jti: str) -> Claims | None:
        self._raise_if_failing()
        async with self._reading:
            if jti in self._live:
                return self._live[jti]
            if time.monotonic() - self._misses.get(jti, float("-inf")) < POLL_SECONDS:
                return None
            self._raise_if_failing()
            self._spend_one()
            try:
                found = await self._store.live(int(time.time()), jti)
            except GatewayError as error:
                self._failed(str(error))
                raise StoreUnavailable(str(error)) from None
            if found:
                self._live.update(found)
                self._fingerprint = ()  # it does not count this one: deleted before the next poll, it would look unchanged
            else:
                self._note_miss(jti)
            return found.get(jti)

    def _spend_one(self) -> None:
        now = time.monotonic()
        refill = (now - self._allowance_at) * LOOKUPS_PER_SECOND
        self._allowance, self._allowance_at = min(self._allowance + refill, LOOKUPS_PER_SECOND), now
        if self._allowance < 1:
            raise StoreUnavailable("too many token lookups")
        self._allowance -= 1

    def _note_miss(self, jti: str) -> None:
        if len(self._misses) >= _MAX_MISSES:
            self._misses.clear()
        self._misses[jti] = time.monotonic()

    def _raise_if_failing(self) -> None:
        # Not one more request may queue up behind a database that does not answer.
        if self._failure:
            raise StoreUnavailable(self._failure)

    def _failed(self, reason: str) -> None:
        if reason != self._failure:
            log.error("%s (known tokens stay valid for %d s)", reason, self._max_stale)
        self._failure = reason

    def _recovered(self) -> None:
        if self._failure:
            log.warning("the token database can be read again")
        self._failure = ""
