"""Settings: what is accepted, and what a slip is answered with."""

from __future__ import annotations

import ast
import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefect_platform.config import settings, stack
from prefect_platform.config.roles import Roles
from prefect_platform.environment import opened
from prefect_platform.errors import ConfigError

from .conftest import ROOT, TRAITS, Load


def test_nothing_set_is_a_complete_local_platform(load: Load) -> None:
    chosen = load({})
    assert chosen.target == "local"
    assert chosen.values["gateway"]["host"] == "127.0.0.1"
    assert chosen.values["prefect"]["workers"][0]["limit"] == 5


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"target": "docker"}, "platform.target: 'docker' is not one of ['compose', 'fly', 'local']"),
        ({"gatway": {}}, "platform.gatway: unknown key; did you mean 'gateway'?"),
        ({"gateway": {"prot": 1}}, "platform.gateway.prot: unknown key; did you mean 'port'?"),
        ({"gateway": {"port": "http"}}, "platform.gateway.port: 'http' is not of type integer"),
        ({"gateway": {"port": 70000}}, "platform.gateway.port: 70000 is greater than the maximum"),
        (
            {"gateway": {"routes": [{"name": "a", "path": "/a", "url": "http://a/b"}]}},
            "is not a URL like http://service.internal:8000",
        ),
        (
            {"gateway": {"routes": [{"name": "a`", "path": "/a", "url": "http://a"}]}},
            "is not a name of lower-case letters",
        ),
        (
            {"gateway": {"routes": [{"name": "a", "path": "/{{ env }}", "url": "http://a"}]}},
            "is not a path prefix like",
        ),
        ({"gateway": {"public_url": "https://x/{{.}}"}}, "is not a URL like https://prefect.example.com"),
        (
            {"prefect": {"work_pools": [{"name": "p", "limit": 3}]}},
            "platform.prefect.work_pools[0].limit: unknown key",
        ),
        (
            {"prefect": {"work_pools": [{"name": "a/b"}]}},
            "'a/b' is not a name of letters, digits, dots, dashes",
        ),
        ({"prefect": {"work_pools": [{"name": " a"}]}}, "' a' is not a name"),
        ({"prefect": {"work_pools": [{"name": ""}]}}, "'' is not a name"),
        ({"prefect": {"work_pools": [{"name": "a\nb"}]}}, "work_pools[0].name: contains a line break"),
        (
            {"prefect": {"work_pools": [{"name": "a", "concurrency_limit": -1}]}},
            "platform.prefect.work_pools[0].concurrency_limit: -1 is less than the minimum",
        ),
        (
            {"prefect": {"work_pools": [{"name": "a", "queues": [{"name": "q%"}]}]}},
            "work_pools[0].queues[0].name: 'q%' is not a name",
        ),
        (
            {"prefect": {"work_pools": [{"name": "a", "queues": [{"name": "q", "priority": 0}]}]}},
            "work_pools[0].queues[0].priority: 0 is less than the minimum",
        ),
        (
            {"prefect": {"global_concurrency_limits": [{"name": "x", "limit": -1}]}},
            "global_concurrency_limits[0].limit: -1 is less than the minimum",
        ),
        ({"prefect": {"workers": "one"}}, "platform.prefect.workers: 'one' is not of type array"),
        (
            {"environments": {"x": {"gateway": {"porta": 1}}}},
            "platform.gateway.porta: unknown key; did you mean 'port'?",
        ),
    ],
)
def test_a_slip_is_named_with_its_place(load: Load, raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(raw)
    assert message in caught.value.reason
    assert caught.value.exit_code == 2


def test_the_message_names_file_and_line(load: Load, tmp_path: Path) -> None:
    text = "platform:\n  gateway:\n    port: 8080\n    prot: 9\n"
    (tmp_path / "invoke.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"^invoke\.yaml:4: platform\.gateway\.prot"):
        load(yaml.safe_load(text)["platform"])


def test_the_message_names_the_file_in_which_the_key_stands(tmp_path: Path) -> None:
    """The one that overrides the others, if it stands in two."""
    given, own, home = tmp_path / "given.yaml", tmp_path / "invoke.yaml", tmp_path / "home.yaml"
    home.write_text("platform:\n  gateway:\n    prot: 1\n")
    own.write_text("platform:\n  state: .state\n  prefect: {wrokers: []}\n")
    given.write_text("\nplatform: {prefect: {wrokers: []}}\n")
    raw = {"gateway": {"prot": 1}, "prefect": {"wrokers": []}, "state": ".state"}
    with pytest.raises(ConfigError) as caught:
        opened.open_platform(ROOT, raw, "local", {}, print, files=[given, own, home])
    assert caught.value.reason.splitlines() == [
        f"{home}:3: platform.gateway.prot: unknown key; did you mean 'port'?",
        f"{given}:2: platform.prefect.wrokers: unknown key; did you mean 'workers'?",
    ]


def test_the_lab_is_an_environment_that_nobody_declares() -> None:
    """It comes with the clone, so that no settings file has to hold it."""
    shipped = opened.open_platform(ROOT, {}, "lab", {}, print).settings
    assert (shipped.target, shipped.values["host"]) == ("compose", "platform-lab")
    assert shipped.values["gateway"]["public_url"] == "http://127.0.0.1:18080"


@pytest.mark.parametrize("overlay", [None, {}, {"prefect": {"log_level": "DEBUG"}}], ids=str)
def test_what_is_set_of_the_lab_is_set_over_what_is_shipped(overlay: dict[str, Any] | None) -> None:
    own = opened.open_platform(ROOT, {"environments": {"lab": overlay}}, "lab", {}, print).settings
    assert (own.target, own.values["host"]) == ("compose", "platform-lab")
    assert own.values["prefect"]["log_level"] == ("DEBUG" if overlay else "INFO")


def test_the_lab_s_public_urls_follow_its_port() -> None:
    in_file = {"environments": {"lab": {"traefik": {"http_port": 38180}}}}
    by_variable = {"INVOKE_PLATFORM_TRAEFIK_HTTP_PORT": "38180"}
    for raw, environ in ((in_file, {}), ({}, by_variable)):
        lab = opened.open_platform(ROOT, raw, "lab", environ, print).settings
        assert lab.values["gateway"]["public_url"] == "http://127.0.0.1:38180"
        assert lab.values["authentik"]["public_url"] == "http://localhost:38180"
    given = {"environments": {"lab": {"gateway": {"public_url": "http://a.example"}, **in_file}}}
    del given["environments"]["lab"]["environments"]
    assert opened.open_platform(ROOT, given, "lab", {}, print).url == "http://a.example"


@pytest.mark.parametrize("traefik", [3, None, {"http_port": "x"}], ids=str)
def test_a_wrong_port_of_the_lab_is_refused_by_its_place(traefik: Any) -> None:
    with pytest.raises(ConfigError, match=r"platform\.environments\.lab\.traefik|platform\.traefik"):
        opened.open_platform(ROOT, {"environments": {"lab": {"traefik": traefik}}}, "lab", {}, print)


_SECOND = {
    "gateway": {"port": 9080, "verifier_port": 9300, "auth_port": 9097, "ops_port": 9099},
    "prefect": {"port": 5200},
}
_VPS = {"target": "compose", "host": "h"}
_FLY = {"target": "fly", "fly": {"app": "my-app"}, "prefect": {"workers": []}}
_X = {"public_url": "https://x.example"}


@pytest.mark.parametrize(
    ("raw", "env", "other"),
    [
        ({"gateway": _X, "environments": {"second": _SECOND}}, "second", "local"),
        (
            {"gateway": _X, "environments": {"second": _SECOND, "local": {"target": "local"}}},
            "local",
            "second",
        ),
        ({"environments": {"a": {**_VPS, "gateway": _X}, "b": {**_VPS, "gateway": _X}}}, "a", "b"),
        (
            {
                "environments": {
                    "a": {**_VPS, "gateway": _X},
                    "b": {**_FLY, "gateway": {"public_url": "https://X.example:443"}},
                }
            },
            "b",
            "a",
        ),
        (
            {
                "environments": {
                    "production": {**_VPS, "domain": "x.org"},
                    "b": {**_FLY, "gateway": {"public_url": "https://prefect.x.org"}},
                }
            },
            "b",
            "production",
        ),
        ({"environments": {"a": {**_VPS, "gateway": {"public_url": "http://127.0.0.1:18080"}}}}, "a", "lab"),
    ],
)
def test_a_public_url_of_two_environments_is_refused_with_both_names(
    raw: dict[str, Any], env: str, other: str
) -> None:
    """Else this one's tokens are sent to the other's gateway."""
    with pytest.raises(
        ConfigError, match=r"gateway\.public_url: environments .* have the same public URL"
    ) as caught:
        opened.open_platform(ROOT, raw, env, {}, print)
    assert f"environments {env} and {other} " in caught.value.reason
    assert "give " in caught.value.hint


@pytest.mark.parametrize(
    ("raw", "env"),
    [
        ({"environments": {"second": {}}}, "second"),
        ({"environments": {"second": _SECOND}}, "second"),
        ({**_VPS, "gateway": _X, "environments": {"production": {}}}, "production"),
        # One installation with its URL among the common settings goes on working.
        ({"gateway": _X, "environments": {"production": _VPS}}, "production"),
        ({"gateway": _X, "environments": {"second": _SECOND}}, "local"),
        ({"domain": "x.org", "environments": {"second": _SECOND, "production": _VPS}}, "production"),
        ({"gateway": _X, "environments": {"lab": None}}, "lab"),
        (
            {
                "environments": {
                    "a": {**_FLY, "gateway": _X},
                    "b": {**_FLY, "fly": {"app": "my-other", "private": True}, "gateway": _X},
                }
            },
            "b",
        ),
    ],
)
def test_environments_with_public_urls_of_their_own_are_accepted(raw: dict[str, Any], env: str) -> None:
    opened.open_platform(ROOT, raw, env, {}, print)


def test_the_example_of_the_readme_is_valid_in_both_its_environments() -> None:
    block = re.search(r"For example:\n\n((?:    .*\n|\n)+)", (ROOT / "README.md").read_text())
    assert block
    raw = yaml.safe_load(block[1])["platform"]
    urls = {env: opened.open_platform(ROOT, raw, env, {}, print).url for env in ("local", "second")}
    assert len({*urls.values()}) == 2


def test_no_settings_file_is_in_a_commit() -> None:
    """Settings are their owner's: what upstream never has cannot conflict with them."""
    names = ["invoke.yaml", "invoke.yml", "invoke.json"]
    tracked = subprocess.run(
        ["git", "ls-files", *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ignored = subprocess.run(
        ["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (tracked.stdout, ignored.stdout.split()) == ("", names)


def test_an_environment_lies_over_the_rest(load: Load) -> None:
    raw = {
        "gateway": {"port": 1000, "host": "127.0.0.2"},
        "environments": {"staging": {"gateway": {"port": 2000}}},
    }
    assert load(raw).values["gateway"]["port"] == 1000
    staging = load(raw, env="staging")
    assert (staging.values["gateway"]["port"], staging.values["gateway"]["host"]) == (2000, "127.0.0.2")
    assert staging.state.name == "staging"
    with pytest.raises(ConfigError, match="no such environment; environments: local, staging"):
        load(raw, env="prod")


def test_variables_set_one_key_and_unknown_ones_are_errors(load: Load) -> None:
    chosen = load(
        {},
        environ={
            "INVOKE_PLATFORM_GATEWAY_PORT": "9001",
            "INVOKE_PLATFORM_GATEWAY_PUBLIC_URL": "https://a.example",
        },
    )
    assert (chosen.values["gateway"]["port"], chosen.values["gateway"]["public_url"]) == (
        9001,
        "https://a.example",
    )
    with pytest.raises(ConfigError, match="did you mean INVOKE_PLATFORM_GATEWAY_PORT"):
        load({}, environ={"INVOKE_PLATFORM_GATEWAY_PROT": "1"})
    with pytest.raises(ConfigError, match=r"platform\.gateway\.port: 'x' is not of type integer"):
        load({}, environ={"INVOKE_PLATFORM_GATEWAY_PORT": "x"})


def _keys(schema: dict[str, Any]) -> set[str]:
    found = set()
    for key, sub in schema.get("properties", {}).items():
        found |= {key} | _keys(sub) | _keys(sub.get("items", {}))
    return found


def test_the_example_loads_and_explains_every_key(load: Load, stacks: dict[str, stack.Stack]) -> None:
    text = (ROOT / "invoke.example.yaml").read_text()
    data = yaml.safe_load(text)["platform"]
    load(data)
    load(data, env="second")
    schema = settings.platform_schema({each.section: each.schema() for each in stacks.values()}, TRAITS)
    lines = text.splitlines()
    keyed = [
        (number, match[2])
        for number, line in enumerate(lines)
        if (match := re.match(r"^( +|  +- )([a-z_]+):", line))
    ]
    assert not _keys(schema) - {key for _, key in keyed}, "keys that the example does not show"
    bare = [f"{number + 1}: {key}" for number, key in keyed if not lines[number - 1].lstrip().startswith("#")]
    assert not bare, f"keys without a comment above them: {bare}"


def test_rules_ask_traits_and_name_no_target() -> None:
    compared = [
        f"{path.name}:{node.lineno}"
        for path in (ROOT / "src" / "prefect_platform" / "config").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare) and ".target" in ast.unparse(node)
    ]
    assert compared == []


def test_two_stacks_cannot_own_one_section(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / "stacks" / name
        folder.mkdir(parents=True)
        (folder / "stack.yml").write_text("description: x\nsection: same\n")
    with pytest.raises(ConfigError, match="section: 'same' belongs to stack 'one' already"):
        stack.read_all(tmp_path)


def test_two_stacks_cannot_play_one_role(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / "stacks" / name
        folder.mkdir(parents=True)
        (folder / "stack.yml").write_text("description: x\nrole: proxy\n")
    with pytest.raises(ConfigError, match=r"two/stack\.yml: role 'proxy' belongs to stack 'one' already"):
        stack.read_all(tmp_path)


def test_a_copy_of_the_main_stack_proves_itself_too(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / "stacks" / name
        folder.mkdir(parents=True)
        (folder / "stack.yml").write_text("description: x\nproves: true\n")
    found = stack.read_all(tmp_path)
    assert all(each.proves for each in found.values())
    schema = {"properties": {each.section: each.schema() for each in found.values()}}
    assert Roles.of(schema).main == "one"


def test_roles_are_what_the_stacks_declare(load: Load) -> None:
    assert load({}).roles == Roles(main="prefect", proxy="traefik", secrets="vault", database="postgres")


def test_needs_come_first_and_circles_are_refused(tmp_path: Path) -> None:
    for name, needs in (("a", "[b]"), ("b", "[c]"), ("c", "[]"), ("d", "[e]"), ("e", "[d]")):
        folder = tmp_path / "stacks" / name
        folder.mkdir(parents=True)
        (folder / "stack.yml").write_text(f"description: x\nneeds: {needs}\n")
    found = stack.read_all(tmp_path)
    assert [each.name for each in stack.with_needs(found, "a")] == ["c", "b", "a"]
    with pytest.raises(ConfigError, match="d → e → d"):
        stack.with_needs(found, "d")


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (
            {"name": "a", "path": "/prefect/api", "auth": "public"},
            "paths under /prefect belong to the platform",
        ),
        ({"name": "a", "path": "/auth"}, "paths under /auth belong to the platform"),
        ({"name": "metrics", "path": "/m"}, "the name 'metrics' is reserved"),
    ],
)
def test_a_route_cannot_take_the_platforms_own_place(route: dict[str, str], message: str) -> None:
    raw = {"gateway": {"routes": [{"url": "http://a:1", **route}]}}
    with pytest.raises(ConfigError, match=message):
        opened.open_platform(ROOT, raw, "local", {}, print)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"fly": {"idle_minutes": math.nan}}, "platform.fly.idle_minutes: nan is not a finite number"),
        ({"fly": {"idle_minutes": math.inf}}, "platform.fly.idle_minutes: inf is not a finite number"),
        ({"vault": {"seal": {"type": "awskms", 1: "x"}}}, "platform.vault.seal: the key 1 is not text"),
        ({"prefect": {"workers": [{True: "x"}]}}, "platform.prefect.workers[0]: the key True is not text"),
    ],
    ids=["nan", "inf", "a number as a key", "a word that YAML reads as true"],
)
def test_what_yaml_reads_as_no_text_or_no_number_is_refused(
    load: Load, raw: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(raw)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_variable_cannot_be_an_infinite_number(load: Load, value: str) -> None:
    with pytest.raises(ConfigError, match="INVOKE_PLATFORM_FLY_IDLE_MINUTES"):
        load({}, environ={"INVOKE_PLATFORM_FLY_IDLE_MINUTES": value})
