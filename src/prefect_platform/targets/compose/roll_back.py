"""Going back to an earlier release, with the databases as they were if the schema has changed since."""

from __future__ import annotations

from prefect_platform.config.images import tag
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ConfigError
from prefect_platform.targets.docker import databases, releases

from .apply import UP_SECONDS
from .on_host import Site


def roll_back(site: Site, stack: Stack, wanted: str, restore: bool) -> str:
    """Run an earlier release again; returns its id. Raises ConfigError (another schema, no dump), ApplyError."""
    folder, current = site.folder(stack), site.current(stack)
    there = releases.present(site.host, folder)
    lines = releases.history(site.host, f"{site.host.root}/{site.placed(stack).scope}")
    release = releases.previous_good(lines, stack.name, there, current, wanted)
    dump = _dump_for(site, stack, current, release, there, restore)
    site.say(f"rolling {stack.name} back from {current} to {release}")
    if dump:
        # Nobody may write to what is about to be replaced; and what stands now is kept as well.
        site.compose(stack, current, "stop", seconds=1000)
        databases.dump(site.host, site.postgres, site.dumps, stack, f"{current}-rolled-back", site.say)
        databases.restore(site.host, site.postgres, site.dumps, stack, dump, site.say)
    site.serve_routes(stack, site.host.read_folder(f"{folder}/releases/{release}").get("routes.yml"))
    site.up(stack, release, UP_SECONDS)
    site.host.switch(folder, release)
    site.record("rollback", stack, release, releases.GOOD, f"from {current}")
    return release


def _dump_for(site: Site, stack: Stack, current: str, release: str, there: list[str], restore: bool) -> str:
    """The release whose dump has the databases as `release` left them; empty when the schema is the same.

    A database that a newer version has migrated is none that an older one understands.
    """
    now, then = _migrated_by(site, stack, current), _migrated_by(site, stack, release)
    if now == then:
        return ""
    cause = (
        f"{stack.name}: release {release} runs {then}, the current one {now}: "
        "the database's schema may have changed since"
    )
    # The dump that was made when the next image took over is the last with this release's schema.
    same = [each for each in there if release <= each < current and _migrated_by(site, stack, each) == then]
    dumped = [each for each in same if databases.dumped(site.host, site.dumps, stack, each)]
    if not dumped:
        raise ConfigError(
            f"{cause}, and {site.dumps} has no dump of before", f"set the image {now} or a newer one"
        )
    if not restore:
        raise ConfigError(
            f"{cause}. A dump of the databases from just before the change is there",
            f"./invoke {stack.name}.rollback --env {site.env} --to {release} --restore: runs since then are lost (a dump of them is kept)",
        )
    return dumped[-1]


def _migrated_by(site: Site, stack: Stack, release: str) -> str:
    """The image that brings the stack's databases up to date, without its digest: the version decides about the schema."""
    script = 'sed -n "/^  migrate:/,/^  [a-z]/s/^    image: //p" "$1/releases/$2/compose.yml"'
    return tag(site.host.sh(script, site.folder(stack), release, check=False).text.strip())
