"""Vault: what only it has."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from ._context import platform, say


@task(help={"env": "environment of invoke.yaml"})
def recover(c: Context, env: str) -> None:
    """A lost operator's token made anew with the recovery keys. Example: ./invoke vault.recover --env production"""
    import getpass

    from prefect_platform.targets.protocol import HasVault, require

    say("recovery keys, one at a time; an empty line ends")
    keys: list[str] = []
    while key := getpass.getpass(f"key {len(keys) + 1}: ").strip():
        keys.append(key)
    require(platform(c, env).target, HasVault).recover_vault(keys)
    say("the operator's token is made anew")
