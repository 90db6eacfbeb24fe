"""Whatever a setting holds, the rendered files parse, and hold it as it is: nothing breaks out of its place."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from prefect_platform.config import stack
from prefect_platform.config.settings import Settings
from prefect_platform.planning import render
from prefect_platform.targets.compose import names
from prefect_platform.targets.fly import render as machine

from .conftest import ROOT, TRAITS, Load, where

HOSTILE = "a\"b'c: d, {{ e }} %f $g #h }\n- i: \\ ]"
_MARK = re.compile(r"plain-(\d+)-value")
PLACES: list[tuple[str | int, ...]] = [
    ("prefect", "image"),
    ("prefect", "upstream"),
    ("prefect", "server_memory"),
    ("prefect", "log_level"),
    ("prefect", "replica", "bucket"),
    ("prefect", "replica", "path"),
    ("prefect", "replica", "region"),
    ("prefect", "replica", "endpoint"),
    ("prefect", "replica", "interval"),
    ("prefect", "workers", 0, "pool"),
    ("prefect", "workers", 0, "image"),
    ("prefect", "workers", 0, "memory"),
    ("prefect", "allowed_groups", 0),
    ("gateway", "database_url"),
    ("gateway", "public_url"),
    ("gateway", "routes", 0, "url"),
    ("gateway", "routes", 0, "path"),
    ("gateway", "routes", 0, "allowed_groups", 0),
    ("authentik", "image"),
    ("authentik", "outpost_url"),
    ("authentik", "admin_group"),
    ("authentik", "server_memory"),
    ("redis", "image"),
    ("postgres", "image"),
    ("traefik", "image"),
    ("traefik", "acme_email"),
    ("traefik", "acme_server"),
    ("traefik", "acme_dns_provider"),
    ("vault", "image"),
    ("vault", "memory"),
]
RAW = {
    "host": "root@203.0.113.7",
    "domain": "example.com",
    "fly": {"app": "app"},
    "prefect": {
        "auth": "sso-or-token",
        "replica": {"bucket": "bucket", "endpoint": "https://s3.example.com"},
    },
    "gateway": {
        "routes": [
            {
                "name": "one",
                "path": "/one",
                "url": "http://one",
                "auth": "sso-or-token",
                "allowed_groups": ["a"],
            }
        ]
    },
}


def _with(chosen: Settings, path: tuple[str | int, ...], value: str) -> Settings:
    """Past the schema, which refuses most of it: rendering must not depend on a pattern."""
    values = copy.deepcopy(chosen.values)
    node: Any = values
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return dataclasses.replace(chosen, values=values)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


def _rendered(chosen: Settings) -> Iterator[str]:
    """Every text of every file of every stack, parsed."""
    for each in stack.for_target(stack.read_all(ROOT), chosen.traits).values():
        place = {
            "local": lambda each=each: where(each.name),
            "fly": lambda each=each: machine.where(each.name),
            "compose": lambda each=each: names.where(chosen, each.scope),
        }[chosen.target]()
        built = render.build(each, chosen, place, 2**33)
        yield from _texts(built.compose)
        for service in built.services:
            yield from service.environment.values()
        own = {path.name.removesuffix(".j2") for path in each.folder.glob("*.j2")}
        files = {path: body for path, body in built.files.items() if path in own}
        for path, body in {**files, **({"routes.yml": built.routes} if built.routes else {})}.items():
            if path == "routes.yml":
                assert b"{{" not in body, "Traefik would take it for a template"
            if path.endswith(".yml"):
                yield from _texts(yaml.safe_load(body))
            elif path.endswith(".env"):
                yield from render.env_file(body.decode()).values()


@pytest.mark.timeout(300)
def test_a_setting_is_data(load: Load) -> None:
    """All at once, each with a mark of its own; twice, as an upstream leaves the server out and a public URL that is none the sign-in."""
    unseen = set(range(len(PLACES)))
    for target in TRAITS:
        chosen = load({"target": target, **RAW}, root=ROOT)
        for skipped in ({("prefect", "upstream"), ("gateway", "public_url")}, set[tuple[str | int, ...]]()):
            plain, hostile = chosen, chosen
            for number, path in enumerate(PLACES):
                if path not in skipped:
                    plain = _with(plain, path, f"plain-{number}-value")
                    hostile = _with(hostile, path, f"{HOSTILE}{number}")
            before, after = list(_rendered(plain)), list(_rendered(hostile))
            expected = [_MARK.sub(lambda found: f"{HOSTILE}{found[1]}", text) for text in before]
            # The verifier's policy is JSON inside a text.
            assert [each for each in after if '"groups"' not in each] == [
                each for each in expected if '"groups"' not in each
            ]
            unseen -= {int(number) for text in before for number in _MARK.findall(text)}
    assert [PLACES[number] for number in unseen] == [], "no template uses these: take them off the list"


@hypothesis_settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_read_back(text: str) -> None:
    assert yaml.safe_load(f"[{render.yaml_text(text)}, 1]") == [text, 1]
    assert "{{" not in render.yaml_text(text)
    assert render.env_file(f"A=1\nB={render.env_text(text)}\n# c\nD=2\n") == {"A": "1", "B": text, "D": "2"}
