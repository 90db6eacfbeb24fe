"""Vault: recovery."""

from __future__ import annotations

from invoke.context import Context

from ._context import platform, say
from ._task import task


@task()
def recover(c: Context, env: str) -> None:
    """Replace a lost operator token (recovery keys).

    Example: ./invoke vault.recover --env production
    """
    import getpass

    from prefect_platform.targets.compose import target

    say("recovery keys, one at a time; an empty line ends")
    keys: list[str] = []
    while key := getpass.getpass(f"key {len(keys) + 1}: ").strip():
        keys.append(key)
    target.recover_vault(platform(c, env).target, keys)
    say("the operator's token is made anew")
