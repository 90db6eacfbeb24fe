"""Two environments on one host share what the host shares, and nothing else: read off the rendered bundles, all stacks of both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from prefect_platform.config import stack
from prefect_platform.config.settings import Settings
from prefect_platform.planning import bundle, render
from prefect_platform.targets.compose import compose_file, names

from .conftest import ROOT, TRAITS, Load

SHARED_NETWORKS = {"platform-vault"}
"""Agents of every environment reach the host's Vault through it; it has no other members and no way out."""
MEMORY = 8 * 2**30


def _settings(load: Load, env: str) -> Settings:
    own = {"target": "compose", "host": "root@203.0.113.7", "domain": "example.com"}
    return load({"environments": {"production": own, "staging": own}}, env=env, root=ROOT)


def _rendered(load: Load, env: str) -> dict[str, bundle.Bundle]:
    chosen = _settings(load, env)
    found = {}
    for name, each in stack.for_target(stack.read_all(ROOT), TRAITS["compose"]).items():
        built = render.build(each, chosen, names.where(chosen, each.scope), MEMORY)
        found[name] = compose_file.finish(built, names.frame(chosen, each))
    return found


def _compose(one: bundle.Bundle) -> dict[str, Any]:
    return dict(yaml.safe_load(one.files["compose.yml"]))


def _names_in(load: Load, env: str) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that the stacks of an environment own on the host."""
    chosen = _settings(load, env)
    for one in _rendered(load, env).values():
        if one.stack.scope == "host":
            continue
        compose = _compose(one)
        yield "project", compose["name"]
        yield "folder", names.placed(chosen, one.stack).folder
        for service in compose["services"].values():
            yield "container", service["container_name"]
            yield from (
                ("mount", each.split(":")[0]) for each in service.get("volumes", ()) if each[0] == "/"
            )
            yield from (("network", each) for each in service.get("networks", ()))
        yield from (("volume", each["name"]) for each in compose.get("volumes", {}).values())
        for database in one.stack.databases:
            server = names.where(chosen, "environment").container("postgres")
            yield "database", f"{server}/{database.name}"
        yield from _secrets_in(one)
        yield from _routes_in(one.routes)


def _secrets_in(one: bundle.Bundle) -> Iterator[tuple[str, str]]:
    for path, body in one.files.items():
        if path.endswith("secrets.ctmpl"):
            yield from (("secret", each) for each in re.findall(rb'secret "([^"]+)"', body))


def _routes_in(routes: bytes | None) -> Iterator[tuple[str, str]]:
    if not routes:
        return
    http: Mapping[str, Mapping[str, Any]] = yaml.safe_load(routes)["http"]
    for kind, named in http.items():
        yield from ((kind, name) for name in named)
    for router in http.get("routers", {}).values():
        yield "rule", router["rule"]
    for service in http.get("services", {}).values():
        yield from (("server", each["url"]) for each in service["loadBalancer"]["servers"])


@pytest.mark.parametrize("kind", ["container", "network", "volume", "database", "secret", "routers", "rule"])
def test_each_kind_of_name_is_seen(load: Load, kind: str) -> None:
    """Else the test below would find nothing shared because it looks at nothing."""
    assert kind in {found for found, _ in _names_in(load, "production")}


def test_two_environments_share_no_name(load: Load) -> None:
    mine, other = set(_names_in(load, "production")), set(_names_in(load, "staging"))
    assert {name for _, name in mine & other} == SHARED_NETWORKS


def test_what_the_host_shares_is_the_same_whoever_sets_it_up(load: Load) -> None:
    mine, other = _rendered(load, "production"), _rendered(load, "staging")
    hosts = [name for name, one in mine.items() if one.stack.scope == "host"]
    assert hosts == ["traefik", "vault"]
    for name in hosts:
        assert mine[name].files == other[name].files, name
        assert mine[name].routes == other[name].routes, name


def test_one_environments_role_is_unknown_to_the_others_server(load: Load) -> None:
    """The same names, but each environment's PostgreSQL is a container of its own, on a network of its own."""
    for env, network in (("production", "platform-data"), ("staging", "platform-data-staging")):
        postgres = _compose(_rendered(load, env)["postgres"])["services"]["postgres"]
        assert postgres["networks"] == [network]


def test_a_setting_of_the_server_is_no_reason_to_migrate(load: Load) -> None:
    def migration(**prefect: Any) -> Any:
        chosen = _settings(load, "production")
        chosen.values["prefect"] |= prefect
        each = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])["prefect"]
        built = render.build(each, chosen, names.where(chosen, each.scope), MEMORY)
        return _compose(compose_file.finish(built, names.frame(chosen, each)))["services"]["migrate"]

    assert migration(log_level="DEBUG", retention_days=7) == migration()
    assert migration(image="prefecthq/prefect:3.9.1-python3.12") != migration()
