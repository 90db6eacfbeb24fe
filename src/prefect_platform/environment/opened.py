"""One environment, opened: its configuration, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect_platform.config import database_url, objects, private_app, settings, stack, urls
from prefect_platform.config.rules import cross_check, with_sso
from prefect_platform.targets import open_target, traits
from prefect_platform.targets.protocol import Say, Target


@dataclass(frozen=True)
class Platform:
    """One environment, opened: its configuration, and where it runs."""

    settings: settings.Settings
    stacks: Mapping[str, stack.Stack]
    target: Target
    say: Say

    @property
    def url(self) -> str:
        return urls.public_url(self.settings)

    @property
    def served(self) -> bool:
        """Whether there is a gateway here. What is behind another one is proven there, as any client sees it."""
        return not private_app.private(self.settings)

    @property
    def main(self) -> str:
        """The stack whose setup ends with the whole proof: what an environment is for."""
        return next(name for name, each in self.stacks.items() if each.proves)

    @property
    def api_url(self) -> str:
        """Prefect's API as clients reach it: public URL, base path, /api."""
        return f"{self.url}{self.target.where(self.main).base}/api"

    @property
    def named_by_settings(self) -> bool:
        """Whether the public name must exist before setup: Fly creates its own name with the app."""
        return not urls.made_by_target(self.settings)

    def notes(self) -> tuple[str, ...]:
        """What was read differently from how it was written."""
        url = self.settings.values["prefect"]["database_url"]
        return tuple(f"{database_url.KEY}: {note}" for note in database_url.parse(url).notes) if url else ()


def open_platform(
    root: Path,
    raw: Mapping[str, Any],
    env: str,
    environ: Mapping[str, str],
    say: Say,
    overrides: Mapping[str, Any] | None = None,
    files: Sequence[Path] = (),
) -> Platform:
    """Read and validate the whole configuration; `overrides` outrank it, `files` are where it was read. Raises ConfigError; touches nothing."""
    stacks, targets = stack.read_all(root), traits()
    schema = settings.platform_schema({each.section: each.schema() for each in stacks.values()}, targets)
    chosen = settings.load(root, raw, schema, env, environ, targets, overrides, files)
    cross_check(chosen)
    there = private_app.stacks(chosen, with_sso(chosen, stack.for_target(stacks, chosen.traits)))
    there = {name: each.as_set(chosen.values[each.section]) for name, each in there.items()}
    return Platform(chosen, there, open_target(chosen, say), say)


def desired(platform: Platform) -> objects.Desired:
    """The objects that the settings declare in Prefect."""
    return objects.desired(platform.settings, platform.target.where("prefect").bundle)
