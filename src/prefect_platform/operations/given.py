"""Secrets given in the environment of a command: planned like any other change, stored only by a setup."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace

from prefect_platform.environment.opened import Platform
from prefect_platform.errors import PreflightError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Observed, Step


def observe(platform: Platform, built: Sequence[Bundle]) -> tuple[Observed, tuple[Step, ...]]:
    """The target as it is, but with the secrets' versions that a setup leads to; and the steps that store them. Stores nothing."""
    seen = platform.target.observe(built)
    new = {bundle.stack.name: _new(platform, bundle) for bundle in built}
    versions = {
        stack: f"{version}, and new values" if new.get(stack) else version
        for stack, version in seen.secret_versions.items()
    }
    steps = tuple(
        Step("keep", f"secret {name}", "a new value is given")
        for stack, names in new.items()
        for name in names
        if name not in seen.missing.get(stack, ())  # the plan has those
    )
    return replace(seen, secret_versions=versions), steps


def _new(platform: Platform, bundle: Bundle) -> tuple[str, ...]:
    if not _takes(bundle):
        return ()
    # A Vault that is yet to be set up has none to compare with; on one machine none is set up.
    not_yet = () if platform.target.traits.combined else (PreflightError,)
    with contextlib.suppress(*not_yet):
        return tuple(platform.target.store.new_given(bundle.stack, os.environ))
    return ()


def store(platform: Platform, built: Sequence[Bundle]) -> None:
    for bundle in built:
        # Not before it is needed: a Vault that is yet to be set up has no store.
        if _takes(bundle):
            platform.target.store.store_given(bundle.stack, os.environ)


def _takes(bundle: Bundle) -> bool:
    return any(spec.given for spec in bundle.stack.secrets)
