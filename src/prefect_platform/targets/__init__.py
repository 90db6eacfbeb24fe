"""Where a bundle runs. A target is a module here with a class `Target`; settings name it by `platform.target`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

from prefect_platform.config.settings import Settings
from prefect_platform.errors import ConfigError

from .protocol import Say, Target


def kinds() -> list[str]:
    """The targets there are: the folders here that have a `target` module."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(__path__)
        if module.ispkg and importlib.util.find_spec(f"{__name__}.{module.name}.target")
    )


def open_target(settings: Settings, say: Say) -> Target:
    """The target that the settings name. Raises ConfigError for one that does not exist."""
    if settings.target not in kinds():
        raise ConfigError(
            f"platform.target: {settings.target!r} is not a target; there are: {', '.join(kinds())}"
        )
    module = importlib.import_module(f"{__name__}.{settings.target}.target")
    target: Target = module.Target(settings, say)
    return target
