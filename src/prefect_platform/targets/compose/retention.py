"""What a new release brings with it: a dump of databases whose schema may change, and the end of old dumps, releases and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect_platform.config.stack import Stack
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan, Step
from prefect_platform.targets.docker import databases, releases

from . import schema
from .on_host import Site


def dumps(site: Site, bundles: Sequence[Bundle], files: Mapping[str, bytes]) -> tuple[Step, ...]:
    """Those to make before anything is started. `files` are those of the current releases, by `<stack>/<file>`.

    Only where another version takes the databases over, as a rollback sees it: a dump for each change of a setting would soon have
    replaced the five that are kept.
    """
    found: list[Step] = []
    for bundle in bundles:
        before = files.get(f"{bundle.stack.name}/compose.yml")
        if not bundle.stack.databases or before is None:
            continue
        if schema.decided_by(before) != schema.decided_by(bundle.files["compose.yml"]):
            label = site.current(bundle.stack)
            new = databases.dump_names(bundle.stack, label)
            found += [Step("create", f"dump {name}", "the schema may change") for name in new]
            old = databases.outdated_dumps(site.host, site.dumps, bundle.stack, label)
            found += [Step("delete", f"dump {name}", "the newest five stay") for name in old]
    return tuple(found)


def dump(site: Site, stack: Stack, before: str, plan: Plan) -> None:
    """If the plan lists it."""
    if {f"dump {name}" for name in databases.dump_names(stack, before)} & {*plan.of("create")}:
        databases.dump(site.host, site.postgres, site.dumps, stack, before, site.say)


def outdated(site: Site, bundles: Sequence[Bundle]) -> tuple[Step, ...]:
    """What goes when each of the stacks gets a release."""
    found: list[Step] = []
    for bundle in bundles:
        coming = {str(service.spec["image"]) for service in bundle.services}
        gone, images = releases.outdated(site.host, site.folder(bundle.stack), coming)
        found += [
            Step("delete", f"release {bundle.stack.name}/{each}", "the newest ten stay") for each in gone
        ]
        found += [Step("delete", f"image {each}", "no other release names it") for each in images]
    return tuple(found)


def delete(site: Site, stack: Stack, plan: Plan) -> None:
    """The stack's releases, and the images, that the plan lists."""
    listed = plan.of("delete")
    releases.delete(
        site.host, site.folder(stack), _named(listed, f"release {stack.name}/"), _named(listed, "image ")
    )


def _named(subjects: Sequence[str], kind: str) -> list[str]:
    return [each.removeprefix(kind) for each in subjects if each.startswith(kind)]
