"""Where a bundle runs. A target is a folder here: `traits.py` with its TRAITS, `target.py` with a class `Target`.

Settings name it by `platform.target`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import cast

from prefect_platform.config.settings import Settings
from prefect_platform.config.traits import Traits

from .protocol import Say, Target


def traits() -> dict[str, Traits]:
    """Every target's traits by its name: the folders here that have a `traits` module. Imports nothing heavy."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        name = f"{__name__}.{module.name}.traits"
        if module.ispkg and importlib.util.find_spec(name):
            found[module.name] = cast(Traits, importlib.import_module(name).TRAITS)
    return found


def open_target(settings: Settings, say: Say) -> Target:
    """The target that the settings name."""
    module = importlib.import_module(f"{__name__}.{settings.target}.target")
    target: Target = module.Target(settings, say)
    return target
