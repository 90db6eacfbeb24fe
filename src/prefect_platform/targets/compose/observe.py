"""The host's state, as the plan compares it with the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefect_platform.config.stack import Stack
from prefect_platform.planning import diff
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Observed, Running
from prefect_platform.targets.docker import health

from . import resources, retention
from .compose_file import DIGEST
from .containers import service_of
from .on_host import Site

_STATES = {
    "running": "RUNNING",
    "restarting": "FATAL",
    "exited": "EXITED",
    "dead": "EXITED",
    "created": "STOPPED",
}


def observe(site: Site, bundles: Sequence[Bundle]) -> Observed:
    """The current releases' files, the containers, the secrets that Vault has, and what the host lacks."""
    stacks = [bundle.stack for bundle in bundles]
    files: dict[str, bytes] = {}
    running: dict[str, Running] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for stack in stacks:
        current = site.host.read_folder(f"{site.folder(stack)}/current")
        facts = json.loads(current.pop("services.json", b"{}"))
        # What a rollback would serve; what is served now is in Traefik's folder.
        current.pop("routes.yml", None)
        files |= {f"{stack.name}/{path}": body for path, body in current.items()}
        if routes := site.routes(stack):
            files[f"routes/{stack.name}.yml"] = routes
        running |= _running(site, stack, facts)
        missing[stack.name] = _missing_secrets(site, stack)
    seen = Observed(True, files, running, missing, {}, resources.steps(site, bundles))
    todo = diff.make(bundles, seen)
    if not todo.steps:
        return seen
    dumps = retention.dumps(site, bundles, files)
    return replace(seen, more=(*seen.more, *dumps), later=retention.outdated(site, bundles))


def _missing_secrets(site: Site, stack: Stack) -> tuple[str, ...]:
    """All of them while there is no Vault yet."""
    if not stack.secrets:
        return ()
    if site.vault.is_new():
        return tuple(spec.name for spec in stack.secrets if not spec.source)
    return tuple(spec.name for spec in site.store.missing(stack))


def _running(site: Site, stack: Stack, facts: Mapping[str, Any]) -> dict[str, Running]:
    found = {}
    for each in site.host.containers(env=site.placed(stack).scope, stack=stack.name):
        name, known = service_of(each), facts.get(service_of(each), {})
        same = known.get("digest") == each["Config"]["Labels"].get(DIGEST)
        started_with = known.get("facts") if same else None
        found[name] = Running(stack.name, _state(each), each["State"]["Pid"], started_with, "")
    return found


def _state(container: Mapping[str, Any]) -> str:
    """In supervisord's words, which the plan speaks. What was to run once and did so well is done."""
    state, once = container["State"], "prefect-platform.once" in container["Config"]["Labels"]
    if state["Status"] == "exited" and state["ExitCode"] == 0 and once:
        return "DONE"
    if health.unfinished(container):
        return "UNFINISHED"
    if state["Status"] == "running" and state.get("Health", {}).get("Status") == "unhealthy":
        return "UNHEALTHY"
    return _STATES.get(state["Status"], "EXITED")
