"""What a stack needs inside its running services: observe → plan → apply, found by the stack's name.

`plan` shows these steps beside the target's, and `setup` does no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect_platform.config.stack import Stack

from .check_token import CheckToken
from .prefect_objects import PrefectObjects
from .protocol import Done, Provisioner, Ready
from .sign_on import Bootstrap, PrefectApplication
from .vault import SecretStoreOfVault

__all__ = ["Done", "Provisioner", "Ready", "of"]

_BY_STACK: Mapping[str, Sequence[Provisioner]] = {
    "vault": (SecretStoreOfVault(),),
    "gateway": (CheckToken(),),
    "authentik": (Bootstrap(),),
    "prefect": (PrefectObjects(), PrefectApplication()),
}


def of(stack: Stack) -> Sequence[Provisioner]:
    """In the order in which they are applied; none for most stacks."""
    return _BY_STACK.get(stack.name, ())
