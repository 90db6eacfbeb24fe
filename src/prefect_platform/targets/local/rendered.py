"""What setup makes on this machine beside the stacks' files: folders, the secrets' files that processes load, supervisord's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect_platform.errors import PreflightError
from prefect_platform.files import make_private, write_atomic
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan, Step, wanted_files
from prefect_platform.secretstore.file_store import wrong_mode
from prefect_platform.targets.combined.supervisord_conf import configuration

from .installation import Installation

__all__ = ["folders", "require", "steps", "write", "wrong_mode"]

_SETUP = "./invoke prefect.setup"


def folders(bundles: Sequence[Bundle]) -> tuple[str, ...]:
    """Below the state folder; processes expect them."""
    return ("run", "logs", "stacks/routes", "secrets", *(f"data/{each.stack.name}/tmp" for each in bundles))


def steps(on: Installation, bundles: Sequence[Bundle], todo: Plan) -> tuple[Step, ...]:
    """What of it was lost or changed by hand. A change that `todo` makes anyway is not one of them."""
    found = []
    if on.records():
        found += [
            Step("create", f"folder {name}", "missing")
            for name in folders(bundles)
            if not (on.state / name).is_dir()
        ]
        for bundle in bundles:
            if cause := on.store.published(bundle.stack):
                found.append(Step("write", f"secrets/{bundle.stack.name}.env", cause))
    if cause := _configuration_differs(on, bundles, todo):
        found.append(Step("write", "run/supervisord.conf", cause))
    return tuple(found)


def _configuration_differs(on: Installation, bundles: Sequence[Bundle], todo: Plan) -> str:
    file = on.supervisor.config
    if not file.exists():
        return "missing" if on.records() else ""
    if todo.of("start", "restart", "stop", "generate", "keep"):
        return wrong_mode(file)  # it changes with its processes
    return wrong_mode(file) or ("" if file.read_bytes() == _configuration(on, bundles) else "changed")


def _configuration(on: Installation, bundles: Sequence[Bundle]) -> bytes:
    services = [service for bundle in bundles for service in bundle.services]
    versions = {bundle.stack.name: on.store.version(bundle.stack) for bundle in bundles}
    return configuration(str(on.state), on.settings.env, services, versions).encode()


def create_folders(on: Installation, bundles: Sequence[Bundle]) -> None:
    for folder in folders(bundles):
        make_private(on.state / folder)


def write(on: Installation, plan: Plan, bundles: Sequence[Bundle]) -> None:
    """The plan's files of stacks, and supervisord's configuration."""
    wanted = wanted_files(bundles)
    for path in plan.of("write"):
        if path in wanted:
            write_atomic(on.state / "stacks" / path, wanted[path])
    for path in plan.of("delete"):
        (on.state / "stacks" / path).unlink(missing_ok=True)
    write_atomic(on.supervisor.config, _configuration(on, bundles))


def require(on: Installation, services: Sequence[str]) -> None:
    """What these services are started with is there. Raises PreflightError: stopped now, they would not come back."""
    records = on.records()
    loaded = (records.get(name, {}).get("facts", {}).get("environment", {}) for name in services)
    secrets = [Path(each["SECRETS_FILE"]) for each in loaded if "SECRETS_FILE" in each]
    for file in (on.supervisor.config, *secrets):
        if not file.exists():
            raise PreflightError(f"{file}: missing; nothing was changed", f"{_SETUP} restores it")
