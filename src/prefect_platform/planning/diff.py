"""Bundles against what was observed → Plan: steps with causes. Pure; printing it is the dry run."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .bundle import Bundle, Service

_CONTENT_FOLDER = re.compile(r"files/[0-9a-f]{16}/")
_MANY = 3
_NAMED = 5
_VERBS = {
    "created": "create",
    "deleted": "delete",
    "initialised": "initialise",
    "removed": "remove",
    "renewed": "renew",
    "revoked": "revoke",
    "updated": "update",
}
REPLACED = "REPLACED"
"""The state of a process whose programs are made again under it."""
_CALLED = {
    "after": "its start order",
    "argv": "its command",
    "command": "its command",
    "depends_on": "its start order",
    "entrypoint": "its command",
    "environment": "its settings",
    "image": "its image",
    "mem_limit": "its memory limit",
    "ports": "its ports",
    "reads": "its files",
    "stop_grace_period": "its time to stop",
    "stop_seconds": "its time to stop",
}
"""What a person calls the facts of a service; the others have Compose's names."""
UNHEALTHY = "unhealthy"
"""The cause of a restart that nothing declared asks for."""


@dataclass(frozen=True)
class Running:
    """What is known of a process: its stack (empty when unknown), its state in supervisord's words, and the facts and secret
    version it was last started with.
    """

    stack: str
    state: str
    pid: int
    facts: Mapping[str, Any] | None
    secret_version: str


@dataclass(frozen=True)
class Observed:
    """A machine, observed once. `files`: path (`<stack>/<file>`, `routes/<stack>.yml`) → text; `missing`: stack → secret names."""

    supervisor: bool
    files: Mapping[str, bytes]
    running: Mapping[str, Running]
    missing: Mapping[str, tuple[str, ...]]
    secret_versions: Mapping[str, str]
    more: tuple[Step, ...] = ()
    """What the target itself must do first: its app, networks, volumes, roles."""
    later: tuple[Step, ...] = ()
    """What it does at the end of a setup that has something to do: deletions of what is outdated by it."""


@dataclass(frozen=True)
class Step:
    """One thing to do, and why. `detail` is a diff a person can read."""

    action: str
    subject: str
    cause: str
    detail: str = ""

    @classmethod
    def of(cls, change: str, cause: str) -> Step:
        """From the words of a change: `created policy a` is to create policy a."""
        verb, _, subject = change.partition(" ")
        return cls(_VERBS.get(verb, verb), subject, cause)

    def __str__(self) -> str:
        return f"{self.action:8}  {self.subject:27}  {self.cause}".rstrip()


@dataclass(frozen=True)
class Plan:
    """All that a setup does. `steps` are the target's, in their order; `inside` are those within the services, once they run."""

    steps: tuple[Step, ...]
    inside: tuple[Step, ...] = ()

    def of(self, *actions: str) -> list[str]:
        return [step.subject for step in self.steps if step.action in actions]

    def __str__(self) -> str:
        return "\n".join(_lines((*self.steps, *self.inside))) or "nothing to do: matches the configuration"


def _lines(steps: Sequence[Step]) -> Iterator[str]:
    """A line for each step; files of a bundled package (`gateway/jwt/…`) are one line where the same happens to many."""
    for (action, package, cause), found in itertools.groupby(steps, _package):
        group = list(found)
        if package and len(group) > _MANY:
            yield str(Step(action, f"{package}/", f"{cause} ({len(group)} files)"))
        else:
            yield from map(str, group)


def _named(names: Sequence[str]) -> str:
    """For one line of the plan."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED + 1 else ""
    return f"{', '.join(names[:_NAMED] if more else names)}{more}"


def _package(step: Step) -> tuple[str, str, str]:
    stack, _, rest = step.subject.partition("/")
    folder, inside, _ = rest.partition("/")
    return step.action, f"{stack}/{folder}" if inside else "", step.cause


def make(bundles: Sequence[Bundle], observed: Observed) -> Plan:
    """Steps in the order they are done. Leftover processes of other stacks than the bundles' stay."""
    stacks = [bundle.stack.name for bundle in bundles]
    steps: list[Step] = [*observed.more]
    for bundle in bundles:
        given = {spec.name for spec in bundle.stack.secrets if spec.given}
        steps += [
            Step("keep", f"secret {name}", "to be provided")
            if name in given
            else Step("generate", f"secret {name}", "missing")
            for name in observed.missing.get(bundle.stack.name, ())
        ]
    wanted = wanted_files(bundles)
    steps += _file_steps(wanted, observed.files)
    if not observed.supervisor:
        steps.append(Step("start", "supervisord", "not running"))
    services = [service for bundle in bundles for service in bundle.services]
    names = {service.full_name for service in services}
    steps += [
        Step("stop", name, "no longer configured")
        for name, running in sorted(observed.running.items())
        # What has no record belongs to none of the others either.
        if name not in names and running.stack in ("", *stacks)
    ]
    steps += [step for service in services if (step := _service_step(service, observed))]
    return Plan((*steps, *observed.later) if steps else ())


def starts_all(bundle: Bundle, plan: Plan) -> bool:
    """Whether none of a stack's lasting services runs yet: nothing can be asked of it. One more worker says nothing of the others."""
    lasting = {service.full_name for service in bundle.services if service.lasts}
    return bool(lasting) and lasting <= {*plan.of("start")}


def wanted_files(bundles: Sequence[Bundle]) -> dict[str, bytes]:
    """Every file of the machine, by its path below the state folder's `stacks`."""
    wanted: dict[str, bytes] = {}
    for bundle in bundles:
        wanted |= {f"{bundle.stack.name}/{path}": content for path, content in bundle.files.items()}
        if bundle.routes is not None:
            wanted[f"routes/{bundle.stack.name}.yml"] = bundle.routes
    return wanted


def _file_steps(wanted: Mapping[str, bytes], have: Mapping[str, bytes]) -> list[Step]:
    """By the name that a file has in its stack: a folder named by content changes with every neighbour."""
    gone = {_shown(path): path for path in sorted(have) if path not in wanted}
    steps: dict[str, Step] = {}
    for path, content in sorted(wanted.items()):
        name = _shown(path)
        old = have.get(path, have.get(gone.pop(name, "")))
        if old is None and name not in steps:
            steps[name] = Step("write", name, "new")
        elif old is not None and old != content:
            steps[name] = Step("write", name, "changed", _diff(name, old, content))
    names = {_shown(path) for path in wanted}
    return [
        *steps.values(),
        *(Step("delete", name, "no longer part of its stack") for name in gone if name not in names),
    ]


def _shown(path: str) -> str:
    return _CONTENT_FOLDER.sub("", path)


def _diff(path: str, old: bytes, new: bytes) -> str:
    before, after = (data.decode(errors="replace").splitlines() for data in (old, new))
    return "\n".join(
        difflib.unified_diff(before, after, f"{path} (now)", f"{path} (wanted)", lineterm="", n=1)
    )


def _service_step(service: Service, observed: Observed) -> Step | None:
    running = observed.running.get(service.full_name)
    version = observed.secret_versions.get(service.stack, "")
    if running is None or running.state in ("STOPPED", "EXITED"):
        return Step("start", service.full_name, "not running")
    if running.state == "UNFINISHED":
        return Step("start", service.full_name, "its last run did not finish")
    if running.state == "FATAL":
        return Step("restart", service.full_name, "had stopped retrying")
    if running.state in ("BACKOFF", "FAILING"):
        # supervisord waits longer after each exit; the operator may have just removed the cause.
        return Step("restart", service.full_name, "keeps exiting")
    if running.facts is None:
        return Step("restart", service.full_name, "its running configuration is unknown")
    causes = _differences(running.facts, service.facts())
    if running.state == REPLACED:
        causes.append("its runtime is made again")
    if service.needs_secrets and running.secret_version != version:
        causes.append("a secret changed")
    if not causes and running.state == "UNHEALTHY":
        return Step("restart", service.full_name, UNHEALTHY)
    return Step("restart", service.full_name, "; ".join(causes)) if causes else None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    causes = []
    for key, value in new.items():
        before = old.get(key)
        if before == value:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            changed = sorted(name for name in {*before, *value} if before.get(name) != value.get(name))
            causes.append(f"{_CALLED.get(key, key)} changed: {_named(changed)}")
        else:
            causes.append(f"{_CALLED.get(key, key)} changed")
    return list(dict.fromkeys(causes))
