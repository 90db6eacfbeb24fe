"""What only one stack's user may read on the host: files of the operator, in no release, plan or secret store. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prefect_platform.config import seal, tls
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack

_BY_ROLE: Mapping[str, tuple[Callable[[Settings], list[str]], Callable[[Settings], dict[str, bytes]]]] = {
    "proxy": (tls.private_names, tls.private_files),
    "secrets": (seal.private_names, seal.private_files),
}


def names(settings: Settings, stack: Stack) -> list[str]:
    """Paths of `contents`, sorted."""
    return _BY_ROLE[stack.role][0](settings) if stack.role in _BY_ROLE else []


def contents(settings: Settings, stack: Stack) -> dict[str, bytes]:
    """Path below the stack's private folder → contents."""
    return _BY_ROLE[stack.role][1](settings) if stack.role in _BY_ROLE else {}
