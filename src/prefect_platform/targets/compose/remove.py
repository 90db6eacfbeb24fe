"""Removes a stack or an environment from its host. What is shared goes only when no other stack needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect_platform.config import images
from prefect_platform.config.stack import Stack, with_needs
from prefect_platform.errors import ConfigError
from prefect_platform.planning.stop_order import stop_order
from prefect_platform.targets.docker import databases, releases

from . import containers
from .on_host import Site

_NEEDED = """
for f in "$1"/*/*/current; do [ -e "$f" ] && d=${f%/current} && echo "$(basename "$(dirname "$d")")/$(basename "$d")"; done; true
"""


_ANY = 'for f in "$@"; do [ ! -e "$f" ] || { echo yes; break; }; done'


def told(site: Site, stack: str, data: bool) -> str:
    """What remove would delete, for confirmation; empty when nothing is left."""
    if not any(_left(site, scope, stack, data) for scope in ((site.env, "host") if stack else (site.env,))):
        return ""
    what = f"stack {stack}" if stack else "all stacks"
    kept = "with volumes, databases, dumps and releases; their secrets stay in Vault"
    return f"{what} of environment {site.env!r} on {site.host.runner.place}, {kept if data else 'data stays'}"


def _left(site: Site, scope: str, stack: str, data: bool) -> bool:
    labels = {"prefect-platform.env": scope} | ({"prefect-platform.stack": stack} if stack else {})
    engine, folder = site.host.engine, f"{site.host.root}/{scope}/{stack}"
    if (
        engine.containers(labels)
        or (data and engine.volumes(labels))
        or (not stack and engine.networks(labels))
    ):
        return True
    if data:
        return bool(site.host.sh(_ANY, folder).text)
    # Its releases stay; one that is current is still set up.
    return bool(site.host.sh('set -- "$1"/current "$1"/*/current; ' + _ANY, folder).text)


def remove(site: Site, stacks: Mapping[str, Stack], stack: str, data: bool) -> None:
    """Delete a stack, or with "" the environment. Raises ConfigError while something else needs it."""
    if stack:
        _require_unneeded(site, stacks, stacks[stack])
    own = [stack] if stack else [name for name, each in stacks.items() if each.scope != "host"]
    # What others need goes last: a worker must be able to report its end.
    needs = {name: [each.name for each in with_needs(stacks, name)] for name in own}
    for name in (name for group in stop_order(needs) for name in group):
        _remove_stack(site, stacks[name], data, whole=not stack)
    if not stack:
        _remove_networks(site)
        if data:
            site.host.sh('rm -rf "$1/$2"', site.host.root, site.env)


def _remove_stack(site: Site, stack: Stack, data: bool, whole: bool) -> None:
    scope, folder = site.placed(stack).scope, site.folder(stack)
    found = site.host.containers(env=scope, stack=stack.name)
    if found:
        names = sorted(map(containers.name_of, found))
        site.say(f"removing {stack.name}: {', '.join(names)}")
        containers.stop_all(site, found)
        site.host.docker("rm", "-f", *names)
    site.serve_routes(stack, None)
    site.host.sh('rm -f "$1/current"', folder)
    site.record("remove", stack, "", releases.GOOD, "with its data" if data else "data stays")
    if not data:
        return
    if not whole and stack.databases:
        databases.drop(site.host, site.postgres, stack)
    ours = {"prefect-platform.env": scope, "prefect-platform.stack": stack.name}
    for labels in (ours, {"com.docker.compose.project": site.project(stack)}):
        if volumes := site.host.engine.volumes(labels):
            site.host.docker("volume", "rm", "-f", *volumes)
    if stack.secrets:
        site.vault.dismiss(stack)
    # It contains files of other users too.
    image = images.pinned(site.settings.values["vault"]["image"], images.read(site.settings.root))
    site.host.delete(folder, image)


def _require_unneeded(site: Site, stacks: Mapping[str, Stack], stack: Stack) -> None:
    there = [tuple(line.split("/")) for line in site.host.sh(_NEEDED, site.host.root).text.split()]
    users = _users(stacks, stack.name)
    needing = sorted(
        f"{name} ({scope})"
        for scope, name in there
        if name in users and (stack.scope == "host" or scope in (site.env, "host"))
    )
    if needing:
        raise ConfigError(
            f"{stack.name} is needed by {', '.join(needing)}",
            f"remove those first, or the whole environment: ./invoke platform.remove --env {site.env}",
        )


def _users(stacks: Mapping[str, Stack], name: str) -> Sequence[str]:
    return [each.name for each in stacks.values() if name in each.needs]


def _remove_networks(site: Site) -> None:
    """Traefik is in every environment's edge network and is disconnected from this one."""
    for name in site.host.engine.networks({"prefect-platform.env": site.env}):
        site.host.docker("network", "disconnect", "-f", name, site.proxy, check=False)
        site.host.docker("network", "rm", name)
