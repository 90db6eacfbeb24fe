"""Who on the host can look into our containers: an account whose uid a container has may read its processes' environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect_platform.planning.bundle import Service
from prefect_platform.targets.docker.facts import HostFacts


def warnings(facts: HostFacts, services: Sequence[Service], place: str) -> Iterator[str]:
    """A line for each such account but root and the operator's own. Source: proc_pid_environ(5)."""
    uids = {
        int(str(service.spec["user"]).partition(":")[0]) for service in services if "user" in service.spec
    }
    for uid in sorted(uids & {*facts.people} - {0}):
        name = facts.people[uid]
        if name != facts.user:
            yield (
                f"{place}: the account {name} has the uid {uid} of our containers and can read their environment, passwords too; "
                f"on the host, give {name} another uid (usermod --uid) or no shell"
            )
