"""vault.setup: from a server that answers to one that keeps secrets, in steps that may be cut short anywhere and be run again.

The order makes that safe. Vault returns its root token and recovery keys once; so a claim is written beside Vault's data before the
request, and removed when the answer is on the operator's disk. A Vault that is initialised while the claim still exists
was interrupted in between: its keys are lost, it is empty, and it is reinitialised. The root token is revoked last.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.secretstore.store import Secret

from . import STACK, TOKEN
from .journal import Journal
from .kv import Status, Vault
from .server import OPERATOR_POLICY

_READY_SECONDS = 90
_INITIALISED = "initialised Vault"
_CREATED_TOKEN = "created the operator's token"  # noqa: S105 - a sentence
_RENEWED_TOKEN = "renewed the operator's token"  # noqa: S105
_REVOKED_ROOT = "revoked the root token"


class Place(Protocol):
    """Our Vault on its host: how it is reached, and a mark beside its data that outlives the setup's process."""

    @property
    def address(self) -> str: ...
    def claimed(self) -> bool: ...
    def claim(self, on: bool) -> None:
        """Set or remove the mark, durably: one that came back after a power cut would cause a wipe."""

    def wipe(self) -> None:
        """Stop the server, delete its data (not its seal's key), start it."""


@dataclass(frozen=True)
class Setup:
    """What a setup works with. `given` is VAULT_TOKEN; `show` gets the recovery keys, for the terminal alone."""

    store: FileStore
    journal: Path
    policy: Path
    given: Secret | None
    say: Callable[[str], None]
    show: Callable[[Sequence[str]], None]
    mount: str = "secret"
    ca_cert: str | None = None
    keep_recovery_keys: bool = False

    def vault(self, address: str, token: Secret | None, *, observing: bool = False) -> Vault:
        return Vault(address, token, self.mount, self.ca_cert, observing=observing)

    def policy_text(self) -> str:
        """The operator's policy, for the mount that the settings name."""
        return self.policy.read_text().replace('path "secret/', f'path "{self.mount}/')

    @property
    def keys(self) -> Journal:
        return Journal(self.journal)

    @property
    def token(self) -> Secret | None:
        return self.given or self.store.read(STACK).get(TOKEN)


@dataclass(frozen=True)
class Report:
    """`changes` is empty when everything was as it should be; `notices` are what a person should know."""

    status: Status
    changes: tuple[str, ...]
    notices: tuple[str, ...]


def setup(work: Setup, place: Place, seconds: float = _READY_SECONDS) -> Report:
    """Our own Vault: initialised once, unsealed by itself, ready for the operator's token. Raises PlatformError; run it again to resume."""
    changes = _initialise(work, place, seconds)
    status = wait_ready(work, place.address, seconds)
    root = _administrator(work, place.address)
    if root is not None:
        changes += _provision(work, place.address, root)
    changes += _finish(work, place.address)
    return Report(status, (*changes, *_renewed(work, place.address)), _look(work, place.address))


def plan(work: Setup, place: Place | None) -> tuple[str, ...]:
    """The changes that `setup` would report now; writes nothing. `place` is None for a server that does not exist yet.

    Raises PlatformError when the server cannot be reached or is sealed.
    """
    if place is None or not work.vault(place.address, None).status().initialised:
        return _everything(work)
    wait_ready(work, place.address, _READY_SECONDS)
    if place.claimed() and not _known(work, place.address):
        return _everything(work)
    root = _administrator(work, place.address)
    changes: tuple[str, ...] = ()
    if root is not None:
        changes = _ensure_objects(work, work.vault(place.address, root, observing=True))
        changes += () if _has_token(work, place.address) else (_CREATED_TOKEN,)
    if work.keys.root is not None:
        changes += (_REVOKED_ROOT,)
    return changes + plan_renewal(work, place.address)


def plan_renewal(work: Setup, address: str) -> tuple[str, ...]:
    """The changes that `verify` would report: the renewal of a token whose half is over."""
    token = work.token
    works = token is not None and work.vault(address, token).token_works()
    return (_RENEWED_TOKEN,) if works and work.vault(address, token).renewal_is_due() else ()


def _everything(work: Setup) -> tuple[str, ...]:
    """What a new server needs. OpenBao has its audit log from its configuration."""
    objects = (f"key-value store {work.mount}/", "login by AppRole", f"policy {OPERATOR_POLICY}")
    return (_INITIALISED, *(f"created {each}" for each in objects), _CREATED_TOKEN, _REVOKED_ROOT)


def verify(work: Setup, address: str) -> Report:
    """An external Vault: nothing is written but, once in half a year, the token's renewal."""
    status = work.vault(address, None).status()
    if not status.initialised or status.sealed:
        raise PlatformError(
            f"Vault at {address}: {'sealed' if status.initialised else 'not initialised'}",
            "its administrator unseals it: bao operator unseal",
        )
    return Report(status, _renewed(work, address), _look(work, address))


def recover(work: Setup, address: str, keys: Sequence[Secret]) -> Report:
    """Issue a new operator's token from the recovery keys. Raises PlatformError when they are too few or wrong."""
    status = wait_ready(work, address, _READY_SECONDS)
    root = work.vault(address, None).generate_root(keys)
    try:
        changes = _provision(work, address, root)
    finally:
        work.vault(address, root).revoke_token()
    return Report(status, changes, _look(work, address))


def wait_ready(work: Setup, address: str, seconds: float, *, blank: bool = False) -> Status:
    """Until it answers and is open; `blank`: one that waits for its initialisation will do. Raises PlatformError with what it was last."""
    deadline = time.monotonic() + seconds
    vault = work.vault(address, None)
    while True:
        problem: PlatformError
        try:
            status = vault.status()
        except ConfigError:
            raise
        except PlatformError as error:
            problem = error
        else:
            if status.ready or (blank and not status.initialised):
                return status
            what = "sealed" if status.sealed else "without a leader"
            hint = "see docker logs platform-vault; docker restart platform-vault unseals it if its seal is available"
            problem = PlatformError(f"Vault at {address}: {what} after {seconds:g} s", hint)
        if time.monotonic() > deadline:
            raise problem
        time.sleep(0.2)


def _initialise(work: Setup, place: Place, seconds: float) -> tuple[str, ...]:
    status = wait_ready(work, place.address, seconds, blank=True)
    if status.initialised and place.claimed():
        if _known(work, place.address):
            place.claim(False)
            return ()
        work.say(
            "an earlier setup was interrupted before Vault returned its keys; the Vault is empty: reinitialising"
        )
        place.wipe()
        status = wait_ready(work, place.address, seconds, blank=True)
    if status.initialised:
        return ()
    if work.keys.file.exists():
        work.say(f"moved the keys of an earlier Vault aside: {work.keys.set_aside()}")
    place.claim(True)
    work.keys.write(work.vault(place.address, None).initialise())
    place.claim(False)
    return (_INITIALISED,)


def _administrator(work: Setup, address: str) -> Secret | None:
    """A token that may do everything: the journal's until it is revoked, or one that was given. None when none is needed any more."""
    for token in filter(None, (work.keys.root, work.given)):
        vault = work.vault(address, token)
        if vault.token_works() and "root" in vault.token_policies():
            return token
    return None


def _provision(work: Setup, address: str, root: Secret) -> tuple[str, ...]:
    vault = work.vault(address, root)
    changes = _ensure_objects(work, vault)
    if _has_token(work, address):
        return changes
    token = vault.create_operator_token()
    work.store.merge(STACK, {TOKEN: token.value})
    # Those of a setup that was cut off between the two lines above.
    vault.drop_other_operator_tokens(token)
    return (*changes, _CREATED_TOKEN)


def _ensure_objects(work: Setup, vault: Vault) -> tuple[str, ...]:
    """Mounts, audit log and the operator's policy; returns the changes, which an observing `vault` only names."""
    done = {
        f"key-value store {work.mount}/": vault.ensure_kv(),
        "login by AppRole": vault.ensure_approle(),
        "audit log": vault.ensure_audit(),
        f"policy {OPERATOR_POLICY}": vault.ensure_policy(OPERATOR_POLICY, work.policy_text()),
    }
    return tuple(f"{result} {what}" for what, result in done.items() if result != "unchanged")


def _has_token(work: Setup, address: str) -> bool:
    kept = work.store.read(STACK).get(TOKEN)
    return kept is not None and work.vault(address, kept).token_works()


def _finish(work: Setup, address: str) -> tuple[str, ...]:
    """Print the keys, revoke the root token, forget both. The keys first: printed twice is better than never."""
    root, journal = work.keys.root, work.keys.read()
    if root is None:
        return ()
    keys = journal["recovery_keys"]
    work.show(
        [
            f"Recovery keys of Vault at {address}: any {journal['threshold']} of them can issue a new root token. Store them separately, off this machine.",
            *(f"  recovery key {number}: {key}" for number, key in enumerate(keys, 1)),
            f"They are shown only once{', and stay in ' + str(work.keys.file) if work.keep_recovery_keys else ''}.",
        ]
    )
    vault = work.vault(address, root)
    if vault.token_works():
        vault.revoke_token()
    work.keys.forget(keep_recovery_keys=work.keep_recovery_keys)
    return (_REVOKED_ROOT,)


def _renewed(work: Setup, address: str) -> tuple[str, ...]:
    vault = work.vault(address, _require_token(work))
    if not vault.renewal_is_due():
        return ()
    vault.renew_token()
    return (_RENEWED_TOKEN,)


def _look(work: Setup, address: str) -> tuple[str, ...]:
    """Prove that the operator's token can do its work. Raises PlatformError for what is missing."""
    vault = work.vault(address, _require_token(work))
    vault.require_mounts()
    found = vault.policy(OPERATOR_POLICY)
    if found is None or found == work.policy_text():
        return ()
    return (
        f"policy {OPERATOR_POLICY} differs from {work.policy.name}: an administrator's token updates it: "
        "VAULT_TOKEN=… ./invoke vault.setup",
    )


def _require_token(work: Setup) -> Secret:
    if work.token is None:
        raise PlatformError(
            "Vault: initialised, but this machine has no token for it",
            "give one: VAULT_TOKEN=… ./invoke vault.setup (stacks/vault/README.md explains how to replace a lost one)",
        )
    return work.token


def _known(work: Setup, address: str) -> bool:
    """Whether this machine has a token of this Vault: then its answer did arrive."""
    with contextlib.suppress(PlatformError):
        wait_ready(work, address, _READY_SECONDS)
    return any(work.vault(address, token).token_works() for token in (work.keys.root, work.token) if token)
