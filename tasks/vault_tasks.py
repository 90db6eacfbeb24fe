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

    from prefect_platform.errors import ConfigError
    from prefect_platform.targets.protocol import HasVault, require

    target = require(platform(c, env).target, HasVault)
    say("enter recovery keys one at a time; an empty line ends")
    keys: list[str] = []
    try:
        while key := getpass.getpass(f"key {len(keys) + 1}: ").strip():
            keys.append(key)
    except EOFError:
        raise ConfigError("vault.recover: the input ended before an empty line; nothing was done") from None
    target.recover_vault(keys)
    say("issued a new operator token")
