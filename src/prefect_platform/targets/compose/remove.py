"""Taking a stack, or a whole environment, off its host. What is shared with others goes only when nobody needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect_platform.config import images
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError
from prefect_platform.targets.docker import databases, releases

from .on_host import Site

_NEEDED = """
for f in "$1"/*/*/current; do [ -e "$f" ] && d=${f%/current} && echo "$(basename "$(dirname "$d")")/$(basename "$d")"; done; true
"""


def told(site: Site, stack: str, data: bool) -> str:
    """What remove would delete, for a person to confirm."""
    what = f"stack {stack}" if stack else "all stacks"
    kept = "with volumes, databases, dumps and releases; their secrets stay in Vault"
    return f"{what} of environment {site.env!r} on {site.host.runner.place}, {kept if data else 'data stays'}"


def remove(site: Site, stacks: Mapping[str, Stack], stack: str, data: bool) -> None:
    """Delete a stack, or with "" the environment. Raises ConfigError while something else needs it."""
    if stack:
        _require_unneeded(site, stacks, stacks[stack])
    mine = [stacks[stack]] if stack else [each for each in stacks.values() if each.scope != "host"]
    # What others need goes last: a worker must be able to report its end.
    for each in reversed(mine):
        _remove_stack(site, each, data, whole=not stack)
    if not stack:
        _remove_networks(site)
        if data:
            site.host.sh('rm -rf "$1/$2"', site.host.root, site.env)


def _remove_stack(site: Site, stack: Stack, data: bool, whole: bool) -> None:
    scope, folder = site.placed(stack).scope, site.folder(stack)
    found = [each["Name"].lstrip("/") for each in site.host.containers(env=scope, stack=stack.name)]
    if found:
        site.say(f"removing {stack.name}: {', '.join(sorted(found))}")
        site.host.docker("stop", *sorted(found, key=lambda name: "worker" not in name), seconds=1000)
        site.host.docker("rm", "-f", *found)
    site.serve_routes(stack, None)
    site.host.sh('rm -f "$1/current"', folder)
    site.record("remove", stack, "", releases.GOOD, "with its data" if data else "data stays")
    if not data:
        return
    if not whole and stack.databases:
        databases.drop(site.host, site.postgres, stack)
    ours = (f"prefect-platform.env={scope}", f"prefect-platform.stack={stack.name}")
    for labels in (ours, (f"com.docker.compose.project={site.project(stack)}",)):
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        if volumes := site.host.docker("volume", "ls", "-q", *filters).text.split():
            site.host.docker("volume", "rm", "-f", *volumes)
    if stack.secrets:
        site.vault.dismiss(stack)
    # What only a container's user may touch lies in there as well.
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
    """Traefik is in the edge of each environment: it leaves this one. Its next setup forgets about it."""
    label = f"label=prefect-platform.env={site.env}"
    for name in site.host.docker("network", "ls", "--filter", label, "--format", "{{.Name}}").text.split():
        site.host.docker("network", "disconnect", "-f", name, "platform-traefik", check=False)
        site.host.docker("network", "rm", name)
