"""Going back to an earlier release, with the databases as they were if the schema has changed since."""

from __future__ import annotations

import datetime

from prefect_platform.config.stack import Stack
from prefect_platform.errors import ApplyError, ConfigError, PlatformError
from prefect_platform.targets.docker import databases, releases

from . import plugins, schema
from .apply import UP_SECONDS
from .on_host import NotHealthy, Site


def roll_back(site: Site, stack: Stack, wanted: str, restore: bool) -> str:
    """Run an earlier release again; returns its id. Raises ConfigError (another schema, no dump; a missing plugin), ApplyError."""
    folder, current = site.folder(stack), site.current(stack)
    there = releases.present(site.host, folder)
    lines = releases.history(site.host, f"{site.host.root}/{site.placed(stack).scope}")
    release = releases.previous_good(lines, stack.name, there, current, wanted)
    plugins.require_in(site, stack, release)
    dump = _dump_for(site, stack, current, release, there, restore)
    site.say(f"rolling {stack.name} back from {current} to {release}")
    done = ""
    try:
        if dump:
            # Stop writers before the database is replaced; the current state is kept as well.
            site.compose(stack, current, "stop", seconds=1000)
            # With a name of its own: a second attempt must not replace what the first one kept.
            kept = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-rolled-back"
            databases.dump(site.host, site.postgres, site.dumps, stack, kept, site.say)
            databases.restore(site.host, site.postgres, site.dumps, stack, dump, site.say)
            done = f", on the databases of {release}; a dump of what they were is kept: {kept}"
        site.serve_routes(stack, site.host.read_folder(f"{folder}/releases/{release}").get("routes.yml"))
        site.start(stack, release, UP_SECONDS)
        site.host.switch(folder, release)
    except PlatformError as error:
        raise _not_rolled_back(site, stack, current, release, done, error) from None
    site.record("rollback", stack, release, releases.GOOD, f"from {current}")
    return release


def _not_rolled_back(
    site: Site, stack: Stack, current: str, release: str, done: str, error: PlatformError
) -> ApplyError:
    """The error of a rollback that failed on its way, with what it has changed."""
    why = error
    try:
        site.record("rollback", stack, release, "failed", error.reason.splitlines()[0])
        site.host.require_docker(again=True)
    except PlatformError as cause:
        why = cause
    reason = error.reason if why is error else f"{error.reason}\n{why.reason}"
    if isinstance(error, NotHealthy):
        done = f", though {release} was started{done}"
    again = f"./invoke {stack.name}.setup --env {site.env} deploys the settings again"
    return ApplyError(
        f"{reason}\nnot rolled back: release {current} is still the current one{done}",
        f"{why.hint}; then {again}" if why.hint else again,
    )


def _dump_for(site: Site, stack: Stack, current: str, release: str, there: list[str], restore: bool) -> str:
    """The release whose dump has the databases as `release` left them; empty when the schema is the same.

    A database that a newer version has migrated is none that an older one understands.
    """
    if not stack.databases:
        return ""
    decides = {each: schema.decided_by(text) for each, text in site.compose_files(stack).items()}
    now, then = (decides.get(each, ()) for each in (current, release))
    if now == then:
        return ""
    cause = (
        f"{stack.name}: release {release} runs {_shown(then)}, the current one {_shown(now)}: "
        "the database schema may have changed in between"
    )
    # The dump that was made when the next schema took over is the last with this release's.
    same = [each for each in there if release <= each < current and decides.get(each) == then]
    dumped = [each for each in same if databases.dumped(site.host, site.dumps, stack, each)]
    if not dumped:
        raise ConfigError(
            f"{cause}, and {site.dumps} has no dump from before that change",
            f"stay at {_shown(now)}, or go to a newer version",
        )
    if not restore:
        raise ConfigError(
            f"{cause}. A dump from just before the change exists",
            f"./invoke {stack.name}.rollback --env {site.env} --to {release} --restore: what was written since then is lost (a dump of it is kept)",
        )
    return dumped[-1]


def _shown(decides: tuple[str, ...]) -> str:
    return ", ".join(decides) or "an unknown version"
