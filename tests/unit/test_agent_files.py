"""The agent's files hold settings as data: no value can end a string, open another block or become a line of its own."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.secretstore.vault.server import role_name
from prefect_platform.targets.docker import agent

from .conftest import ROOT, Load

HOSTILE = [
    'x"\n}\nvault { address = "http://evil',
    "${env:HOME} $HOME $$ `id`",
    "back\\slash\\",
    '" }}{{ env "VAULT_TOKEN" }}{{ with secret "y',
    "two\r\nlines\ttab\x00\x1b\x7f",
    "é 🔑 \u2028",
]
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


def _strings(text: str) -> list[str]:
    """The values of all string literals. Outside of them and of comments, nothing but words and braces may stand."""
    code = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    assert re.fullmatch(r"[\w\s{}=\[\],]*", _STRING.sub("", code)), code
    assert "$" not in code
    return [json.loads(literal.group()) for literal in _STRING.finditer(code)]


def _stack() -> Stack:
    secrets = (SecretSpec("OWN", "password"), SecretSpec("TAKEN", "", "postgres/PASSWORD"))
    return Stack("prefect", ROOT, "a stack", "prefect", (), (), secrets, {})


def _settings(load: Load, **vault: str) -> Settings:
    settings = load({})
    values = {**settings.values, "vault": {**_defaults(), **vault}}
    return replace(settings, root=ROOT, env="production", values=values)


def _defaults() -> dict[str, object]:
    return {"image": "i:1", "address": None, "ca_cert": None, "mount": "secret", "render_interval": 30}


@pytest.mark.parametrize("value", HOSTILE)
def test_the_address_stays_a_string(load: Load, value: str) -> None:
    _, files = agent.service(_settings(load, address=value), _stack(), "/srv/platform")
    assert value in _strings(files["agent.hcl"].decode())


@pytest.mark.parametrize("value", HOSTILE)
def test_the_mount_stays_a_string_in_the_policy(load: Load, value: str) -> None:
    settings = _settings(load, mount=value)
    paths = list(agent.sources(settings, _stack()))
    text = agent.render(settings, "policy.hcl.j2", name=f"platform-{value}.x", paths=paths)
    found = _strings(text)
    assert [each for each in found if each != "read"] == [
        f"{value}/data/platform/production/prefect",
        f"{value}/data/platform/production/postgres",
    ]


@pytest.mark.parametrize("value", HOSTILE)
def test_the_mount_stays_a_string_in_the_template(load: Load, value: str) -> None:
    settings = _settings(load, mount=value)
    text = agent.render(settings, "secrets.ctmpl.j2", sources=agent.sources(settings, _stack()))
    opened = re.findall(r'\{\{- with secret ("(?:[^"\\\n]|\\.)*") \}\}', text)
    assert [json.loads(each) for each in opened] == list(agent.sources(settings, _stack()))
    assert "VAULT_TOKEN" not in _STRING.sub("", text)


def test_ordinary_names_are_as_ever(load: Load) -> None:
    settings = _settings(load)
    text = agent.render(
        settings, "policy.hcl.j2", name=role_name("production", "prefect"), paths=["a/data/b"]
    )
    assert text == (
        "# What the agent of platform-production.prefect may do: read its own secrets. Nothing else.\n"
        'path "a/data/b" { capabilities = ["read"] }\n'
    )
