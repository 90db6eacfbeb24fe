"""What a stack needs on its host before its containers: images, networks, volumes, databases, its agent's login, private files. Looked at
for the plan, made by it.

`create` makes what the plan lists and nothing else, so a setup does nothing that its plan did not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from prefect_platform.config import private_files
from prefect_platform.config.stack import Stack
from prefect_platform.planning.bundle import Bundle, Service
from prefect_platform.planning.diff import Plan, Step
from prefect_platform.targets.docker import databases

from . import compose_file, names
from .containers import name_of
from .on_host import Site

_ABSENT = "not there yet"
_PRIVATE = "private file "
_ABSENT_FILES = 'for f in "$@"; do [ -e "$f" ] || echo "$f"; done'


def steps(site: Site, bundles: Sequence[Bundle]) -> tuple[Step, ...]:
    """What is missing, each once."""
    with ThreadPoolExecutor() as pool:
        # psql in a container takes as long as all other questions together.
        absent = pool.submit(_absent_databases, site, [bundle.stack for bundle in bundles])
        found = _steps_but_databases(site, bundles)
        return tuple(dict.fromkeys((*found, *absent.result())))


def _absent_databases(site: Site, stacks: Sequence[Stack]) -> list[Step]:
    return [
        Step("create", name, _ABSENT)
        for stack in stacks
        for name in databases.missing(site.host, site.postgres, stack)
    ]


def _steps_but_databases(site: Site, bundles: Sequence[Bundle]) -> list[Step]:
    found: dict[Step, None] = {}
    engine = site.host.engine
    for bundle in bundles:
        for kind, lacking in (
            ("image", [name for name in _images(bundle) if engine.image(name) is None]),
            ("network", [name for name in _networks(site, bundle) if engine.network(name) is None]),
            ("volume", _absent_volumes(site, bundle)),
        ):
            verb = "pull" if kind == "image" else "create"
            found |= dict.fromkeys(Step(verb, f"{kind} {name}", _ABSENT) for name in lacking)
        found |= dict.fromkeys(
            Step("join", f"network {network}", f"{container} is not in it")
            for container, network in (*_unjoined(site, bundle), *_edges_to_join(site, bundle))
        )
        found |= dict.fromkeys(_private_steps(site, bundle))
        if bundle.stack.secrets:
            logins = site.vault.plan_admit(bundle.stack, site.folder(bundle.stack))
            found |= dict.fromkeys(Step.of(change, "the agent's login") for change in logins)
    return list(found)


def create(site: Site, bundle: Bundle, plan: Plan) -> None:
    """Images, networks and volumes of the plan, as far as they are this stack's."""
    listed = {*plan.of("create", "pull")}
    for name in _images(bundle):
        if f"image {name}" in listed:
            site.say(f"pulling {name}")
            site.host.docker("pull", "-q", name, seconds=1800)
    for name in _networks(site, bundle):
        if f"network {name}" in listed:
            _create_network(site, bundle.stack, name)
    joins = plan.of("join")
    for container, name in _unjoined(site, bundle) if joins else ():
        if f"network {name}" in joins:
            site.host.docker("network", "connect", name, container)
    for volume in compose_file.volumes(bundle, site.where(bundle.stack.scope)):
        if f"volume {volume.name}" in listed:
            _create_volume(site, bundle, volume)


def _images(bundle: Bundle) -> list[str]:
    return sorted({str(service.spec["image"]) for service in bundle.services})


def _networks(site: Site, bundle: Bundle) -> list[str]:
    edge = {names.edge(site.settings)} if bundle.stack.name == site.settings.roles.proxy else set()
    return sorted(edge | {name for service in bundle.services for name in service.spec.get("networks", ())})


def _unjoined(site: Site, bundle: Bundle) -> list[tuple[str, str]]:
    """(container, network): what runs as configured but for a network that was removed since, with its environment, or left by hand."""
    digests = {service.digest(): service for service in bundle.services}
    found = []
    for each in site.host.containers(env=site.placed(bundle.stack).scope, stack=bundle.stack.name):
        service = digests.get(each["Config"]["Labels"].get(compose_file.DIGEST, ""))
        if service is not None:
            lacking = {*service.spec.get("networks", ())} - {*each["NetworkSettings"]["Networks"]}
            found += [(name_of(each), network) for network in sorted(lacking)]
    return found


def _edges_to_join(site: Site, bundle: Bundle) -> list[tuple[str, str]]:
    """The proxy joins every environment's edge network (`Site.up`): all of them, if its container is a new one."""
    if bundle.stack.name != site.settings.roles.proxy:
        return []
    there = site.host.engine.container(site.proxy)
    known = {service.digest() for service in bundle.services}
    stays = there is not None and there["Config"]["Labels"].get(compose_file.DIGEST) in known
    return [(site.proxy, name) for name in (site.unjoined_edges() if stays else site.edges())]


def _marker(site: Site, stack: Stack, volume: str) -> str:
    """Written once the volume belongs to its user: a fresh volume belongs to root, whom no service runs as."""
    return f"{site.folder(stack)}/volumes/{volume}"


def _absent_volumes(site: Site, bundle: Bundle) -> list[str]:
    """Those that hold data, and the one in memory that Compose makes for secrets."""
    where = site.where(bundle.stack.scope)
    data = compose_file.volumes(bundle, where)
    markers = [_marker(site, bundle.stack, each.name) for each in data]
    unowned = [
        path.rpartition("/")[2]
        for path in (site.host.sh(_ABSENT_FILES, *markers).text.split() if markers else ())
    ]
    agents = any(service.name == compose_file.AGENT for service in bundle.services)
    secrets = [where.container(bundle.stack.name, "secrets")] if agents else []
    return [*unowned, *(name for name in secrets if site.host.engine.volume(name) is None)]


def _private_steps(site: Site, bundle: Bundle) -> list[Step]:
    found = []
    folder = names.private(site.settings, bundle.stack.name)
    for service, files in _private_files(site, bundle):
        there = site.host.read_private(folder, str(service.spec["image"]))
        found += [
            Step("write", f"{_PRIVATE}{path}", "changed" if path in there else "new")
            for path, content in files.items()
            if there.get(path) != content
        ]
    return found


def lay_private(site: Site, bundle: Bundle, plan: Plan) -> None:
    """Certificate and credentials that the plan lists: in no release, so that only the stack's user reads them."""
    listed = plan.of("write")
    for service, files in _private_files(site, bundle):
        if new := {path: body for path, body in files.items() if f"{_PRIVATE}{path}" in listed}:
            folder = names.private(site.settings, bundle.stack.name)
            site.host.lay_private(folder, new, str(service.spec["user"]), str(service.spec["image"]))


def _private_files(site: Site, bundle: Bundle) -> list[tuple[Service, dict[str, bytes]]]:
    """The services that mount the stack's private folder, and what is to be in it."""
    folder = names.private(site.settings, bundle.stack.name)
    mounting = [
        service
        for service in bundle.services
        if any(str(each).startswith(folder) for each in service.spec.get("volumes", ()))
    ]
    files = dict(private_files.contents(site.settings, bundle.stack)) if mounting else {}
    return [(service, files) for service in mounting if files]


def _create_network(site: Site, stack: Stack, name: str) -> None:
    # One that an interrupted or another setup made in the meantime is as good.
    if site.host.engine.network(name) is not None:
        return
    closed = ["--internal"] if name in names.closed(site.settings) else []
    edge = ["--label", "prefect-platform.edge=yes"] if name == names.edge(site.settings) else []
    # An edge is its environment's, and goes with it, whichever stack comes first.
    scope = site.env if edge else site.placed(stack).scope
    label = f"prefect-platform.env={scope}"
    site.host.docker("network", "create", *closed, *edge, "--label", label, name)


def _create_volume(site: Site, bundle: Bundle, volume: compose_file.Volume) -> None:
    stack = bundle.stack
    env, name = f"prefect-platform.env={site.placed(stack).scope}", f"prefect-platform.stack={stack.name}"
    site.host.docker("volume", "create", "--label", env, "--label", name, volume.name)
    image = str(next(iter(bundle.services)).spec["image"])
    bare = ("run", "--rm", "--network", "none", "--cap-drop", "ALL", "--cap-add", "CHOWN")
    chown = ("--entrypoint", "chown", "-v", f"{volume.name}:/volume", image, volume.owner, "/volume")
    site.host.docker(*bare, "-u", "0:0", *chown)
    site.host.sh('mkdir -p "$(dirname "$1")" && : >"$1"', _marker(site, stack, volume.name))
