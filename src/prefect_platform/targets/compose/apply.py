"""Deploys a stack: networks, volumes, its agent's login, databases, a new release; back to the previous one when that fails."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence

from prefect_platform.config.stack import Stack
from prefect_platform.errors import ApplyError, PlatformError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import UNHEALTHY, Plan
from prefect_platform.targets.docker import databases, releases

from . import compose_file, plugins, resources, retention
from .on_host import NotHealthy, Site

UP_SECONDS = 240
_BACK_SECONDS = 120


def apply(site: Site, bundle: Bundle, plan: Plan) -> None:
    """Interrupted anywhere, the next run resumes. Raises ApplyError after a roll-back, PreflightError before anything is changed."""
    stack = bundle.stack
    plugins.require(site, bundle)
    resources.create(site, bundle, plan)
    if stack.secrets:
        site.vault.admit(stack, site.folder(stack), _user_of(bundle))
        site.store.ensure(stack)
    if stack.databases:
        databases.ensure(site.host, site.postgres, stack, site.store)
    resources.lay_private(site, bundle, plan)
    release = _lay(site, bundle)
    before, routes = site.current(stack), site.routes(stack)
    try:
        # Requests to what does not answer yet wait; and Traefik's own health is one of its routes.
        if stack.expose == "at-once" or routes:
            site.serve_routes(stack, bundle.routes)
        bring_up(site, bundle, release, before, plan)
    except PlatformError as error:
        raise _rolled_back(site, bundle, release, before, routes, error) from None
    site.host.switch(site.folder(stack), release)
    site.record("setup", stack, release, releases.GOOD, "; ".join(sorted(plan.of("start", "restart"))))
    retention.delete(site, stack, plan)


def _lay(site: Site, bundle: Bundle) -> str:
    """Write the release; returns its id. Files are named by their contents, so writing them again is no change."""
    facts = {
        service.full_name: {"digest": service.digest(), "facts": service.facts()}
        for service in bundle.services
    }
    own = {path: body for path, body in bundle.files.items() if not path.startswith("files/")}
    if bundle.routes is not None:
        own["routes.yml"] = bundle.routes
    own["services.json"] = json.dumps(facts, indent=1, sort_keys=True).encode()
    digest = hashlib.sha256(
        b"".join(path.encode() + b"\0" + body for path, body in sorted(own.items()))
    ).hexdigest()[:8]
    release = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{digest}"
    stored = {path: body for path, body in bundle.files.items() if path.startswith("files/")}
    # What a release shows of its files, the release has too: links into the store would not survive a copy.
    shown = {f"releases/{release}/{path}": body for path, body in {**own, **stored}.items()}
    site.host.lay(site.folder(bundle.stack), {**stored, **shown})
    return release


def digests(site: Site, images: Sequence[str]) -> dict[str, str]:
    """Image → its digest in its registry now; an image built on the host has none. Raises ApplyError."""
    found = {}
    for image in images:
        there = site.host.engine.image(image) is not None
        site.say(f"resolving the digest of {image}")
        done = site.host.docker("pull", "-q", image, check=False, seconds=1800)
        known = (site.host.engine.image(image) or {}).get("RepoDigests") or ()
        name = image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
        mine = [each.partition("@")[2] for each in known if each.partition("@")[0] == name]
        if done.code and (mine or not there):
            raise ApplyError(f"{image}: {done.stderr.strip()[-300:]}", "nothing was recorded; run it again")
        if mine:
            found[image] = mine[0]
    return found


def bring_up(site: Site, bundle: Bundle, release: str, before: str, plan: Plan) -> None:
    """Start a release: a dump and the migration first, where there is one. Raises ApplyError, with the cause, for what does not become healthy."""
    stack, changed = bundle.stack, {*plan.of("start", "restart")}
    if not bundle.services:
        return  # a Vault or an Authentik that runs elsewhere
    once = [name for name in compose_file.once(bundle) if f"{stack.name}-{name}" in changed]
    retention.dump(site, stack, before, plan)
    agent = compose_file.AGENT in (service.name for service in bundle.services)
    run_once(site, stack, release, once, agent=agent)
    if gone := plan.of("stop"):
        site.say(f"stopping {', '.join(gone)}: runs finish first")
    site.say(f"starting {stack.name}: {', '.join(sorted(changed)) or 'nothing new'}")
    # Compose leaves alone what runs as configured, well or not.
    ill = {step.subject for step in plan.steps if step.cause == UNHEALTHY}
    for service in bundle.services:
        if service.full_name in ill:
            site.host.docker("restart", str(service.spec["container_name"]), seconds=600)
    site.start(stack, release, UP_SECONDS, wait=compose_file.waits(bundle))


def run_once(site: Site, stack: Stack, release: str, services: Sequence[str], *, agent: bool) -> None:
    """Run these services to completion, one after another, beside the stack's agent where it has one. Raises ApplyError."""
    if services and agent:
        site.compose(stack, release, "up", "-d", "--wait", "--wait-timeout", "120", compose_file.AGENT)
    for name in services:
        site.say(f"running {stack.name}-{name}")
        words = ("up", "--no-deps", "--exit-code-from", name, "--abort-on-container-exit", name)
        try:
            site.compose(stack, release, *words)
        except PlatformError as error:
            raise ApplyError(
                f"{stack.name}-{name}: did not finish: {error.reason[-600:]}",
                error.hint or f"./invoke {stack.name}.logs --service {name}",
            ) from None


def _rolled_back(
    site: Site, bundle: Bundle, release: str, before: str, routes: bytes, error: PlatformError
) -> ApplyError:
    """The error of a failed setup, with what was really done about it: the previous release may not start either."""
    stack = bundle.stack
    said, hint = error.reason, error.hint or f"./invoke {stack.name}.logs"
    try:
        site.record("setup", stack, release, "failed", said.splitlines()[0])
        site.serve_routes(stack, routes)
        if not before:
            return ApplyError(said, hint)
        site.host.require_docker(again=True)
        site.say(f"rolling {stack.name} back to {before}")
        site.start(stack, before, _BACK_SECONDS, wait=compose_file.waits(bundle))
    except NotHealthy as also:
        return ApplyError(
            f"{said}\nrelease {before} was started again, but is not healthy: {also.cause}", also.hint
        )
    except PlatformError as also:
        back = f"not rolled back to release {before}" if before else "what it left was not cleaned up"
        return ApplyError(
            f"{said}\n{back}: {also.reason[-600:]}",
            f"{also.hint}; then ./invoke {stack.name}.setup" if also.hint else hint,
        )
    return ApplyError(f"{said}\nrolled back to release {before}", hint)


def _user_of(bundle: Bundle) -> str:
    """The uid:gid that a stack's secrets belong to."""
    return next(
        str(service.spec["user"]) for service in bundle.services if service.name == compose_file.AGENT
    )
