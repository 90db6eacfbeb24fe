"""Vault: initialised once, with its mounts, its policy and the operator's token."""

from __future__ import annotations

from prefect_platform.environment.opened import Platform
from prefect_platform.planning.diff import Step
from prefect_platform.targets.protocol import HasVault, require

from .protocol import Done, Ready


class SecretStoreOfVault:
    """The target reaches Vault, so the target knows the steps."""

    def check(self, platform: Platform) -> None:
        """Nothing that the schema does not say."""

    def plan(self, platform: Platform, running: bool) -> tuple[Step, ...]:
        return require(platform.target, HasVault).vault_steps()

    def apply(self, platform: Platform, ready: Ready) -> Done:
        return Done(require(platform.target, HasVault).set_up_vault())
