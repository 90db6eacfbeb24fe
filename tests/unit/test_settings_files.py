"""Whatever a settings file or a variable contains, it is read or refused with its place: never a traceback, never ignored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.cli.config import PlatformConfig
from prefect_platform.errors import ConfigError

from .conftest import Load


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def _read(folder: Path) -> Any:
    """What `./invoke` reads before it opens an environment."""
    config = PlatformConfig()
    config.set_project_location(folder)
    config.load_project()
    config.require_known_keys(())
    config.require_executor()
    return config.get("platform")


def _refusal(folder: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        _read(folder)
    assert caught.value.hint
    assert len(caught.value.reason) < 400
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("\nplatform: hi", 2, "platform: must be a mapping"),
        ("platform: [1]", 1, "platform: must be a mapping"),
        ("platform: []", 1, "platform: must be a mapping"),
        ("platform: false", 1, "platform: must be a mapping"),
        ("platform: ''", 1, "platform: must be a mapping"),
        ("platform: !!set {a, b}", 1, "platform: must be a mapping"),
        ("platform: !!omap [a: 1]", 1, "platform: must be a mapping"),
        ("run: {}\n1: b", 2, "key '1' is not text"),
        ("~: 1", 1, "key '~' is not text"),
        ("2020-01-01: 1", 1, "key '2020-01-01' is not text"),
        ("[a]: 1", 1, "a key that is not text"),
        ("platform:\n  gateway:\n    1: b", 3, "key '1' is not text"),
        ("platform: &p\n  prefect: *p", 1, "contains itself"),
        ("platform:\n  gateway:\n    routes: &r [*r]", 3, "contains itself"),
        ("platform:\n  environments: &e {a: *e}", 2, "contains itself"),
        ("platform:\n  domain: 2020-13-45", 2, "'2020-13-45' is not a valid timestamp"),
        ("platform:\n  domain: 2020-01-01T99:99:99Z", 2, "is not a valid timestamp"),
        ("platform:\n  domain: !!int foo", 2, "'foo' is not a valid int"),
        ('platform:\n  domain: !!int ""', 2, "'' is not a valid int"),
        ("platform:\n  domain: !!bool foo", 2, "'foo' is not a valid bool"),
        ("platform:\n  domain: !!float foo", 2, "'foo' is not a valid float"),
        ("platform:\n  domain: !!timestamp foo", 2, "'foo' is not a valid timestamp"),
        ("platform:\n  gateway:\n    port: 0x_", 3, "'0x_' is not a valid int"),
        ("platform:\n  gateway:\n    port: 0b_", 3, "'0b_' is not a valid int"),
        ("platform:\n  gateway:\n    port: " + "1" * 5000, 3, "is not a valid int"),
        ('platform:\n  state: "\\ud800"', 2, "is not a valid str"),
        ("platform:\n  a: " + "[" * 3000, 2, "nested too deep"),
        ("platform:\n  a: 1\n  a: 2", 3, "duplicate key 'a'"),
        ("platform:\n  environments: {a: {b: 1, b: 2}}", 2, "duplicate key 'b'"),
        ("tasks:\n  executor_class: nope", 2, "tasks.executor_class: 'nope'"),
        ("tasks: {executor_class: foo.bar}", 1, "tasks.executor_class: 'foo.bar'"),
        ("tasks: {executor_class: 5}", 1, "tasks.executor_class: 5"),
        ("tasks: {executor_class: os.nope}", 1, "tasks.executor_class: 'os.nope'"),
    ],
)
def test_a_file_that_cannot_be_settings(tmp_path: Path, text: str, line: int, says: str) -> None:
    (tmp_path / "invoke.yaml").write_text(text + "\n")
    said = _refusal(tmp_path).reason
    assert says in said
    assert said.startswith(f"invoke.yaml:{line}: "), said


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[" * 5000, 1, "nested too deep"),
        ('{\n"platform": {"a": ' + "[" * 5000, 2, "nested too deep"),
        ('{"platform": {\n\t"state": "a",\n\t"state": "b"}}', 3, "duplicate key 'state'"),
        ('{"platform":\n{"state": ' + "1" * 5000 + "}}", 1, "invalid JSON"),
        ('{"platform": {"state": "\\ud800"}}', 1, "invalid JSON"),
        ('\n{"platform": 5}', 2, "platform: must be a mapping"),
    ],
)
def test_a_json_file_that_cannot_be_settings(tmp_path: Path, text: str, line: int, says: str) -> None:
    (tmp_path / "invoke.json").write_text(text)
    said = _refusal(tmp_path).reason
    assert says in said
    assert said.startswith(f"invoke.json:{line}: "), said


def test_json_is_read_whatever_its_whitespace(tmp_path: Path) -> None:
    (tmp_path / "invoke.json").write_text('{\n\t"platform": {"state": "\\ud83d\\ude00"}}')
    assert _read(tmp_path)["state"] == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1\nb = (\n", "invoke.py:2: SyntaxError"),
        ("a = 1\nb = 1 / 0\n", "invoke.py:2: ZeroDivisionError"),
        ("import os\n", "'os' is a module"),
        ("import nope_nope\n", "invoke.py:1: ModuleNotFoundError"),
        ("platform = 5\n", "platform: must be a mapping"),
    ],
)
def test_a_python_file_that_cannot_be_settings(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "invoke.py").write_text(text)
    assert says in _refusal(tmp_path).reason


def test_an_empty_platform_is_none(tmp_path: Path) -> None:
    """All its keys may be comments."""
    (tmp_path / "invoke.yaml").write_text("platform:\n  # state: .state\n")
    assert _read(tmp_path) is None


def test_the_homes_file_is_read_as_strictly(tmp_path: Path, home: Path) -> None:
    for text, says in (("1: b", "key '1' is not text"), ("platform: hi", "platform: must be a mapping")):
        (home / ".invoke.yaml").write_text(f"{text}\n")
        said = _refusal(tmp_path).reason
        assert said.startswith(f"{home}/.invoke.yaml:1: ")
        assert says in said
    (home / ".invoke.yaml").write_text("docker: {1: b}\n")
    assert _read(tmp_path) is None, "what other projects need is theirs"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "invoke.yaml"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("gone.yaml")
    refused = _refusal(tmp_path)
    says = {
        "fifo": "not a regular file",
        "folder": "is a folder",
        "dangling": "gone.yaml, which does not exist",
    }
    assert refused.reason.startswith(f"{file.name}: ")
    assert says[kind] in refused.reason
    assert "invoke.example.yaml" in refused.hint


@pytest.mark.parametrize("raw", ["hi", [1], [], {"a"}, 0, False, ""])
def test_a_platform_that_is_no_mapping(load: Load, raw: Any) -> None:
    with pytest.raises(ConfigError, match=r"^platform: must be a mapping"):
        load(raw)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"gateway": {"port": 28180.0}}, "platform.gateway.port: 28180.0 is not of type integer"),
        (
            {"prefect": {"retention_days": 90.0}},
            "platform.prefect.retention_days: 90.0 is not of type integer",
        ),
        ({"environments": {"a": {"environments": {"b": {}}}}}, "platform.environments.a.environments: "),
        ({"environments": []}, "platform.environments: must map"),
        ({"environments": 0}, "platform.environments: must map"),
        ({"environments": {"a": []}}, "platform.environments.a: must be a mapping"),
    ],
)
def test_what_was_ignored_is_refused(load: Load, raw: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(raw)
    assert caught.value.reason.startswith(says)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INVOKE_PLATFORM_PREFECT_RETENTION_DAYS", "2020-13-45", ": not a value of type integer"),
        ("INVOKE_PLATFORM_PREFECT_RETENTION_DAYS", "!!int foo", ": not a value of type integer"),
        ("INVOKE_PLATFORM_PREFECT_RETENTION_DAYS", "1" * 5000, ": not a value of type integer"),
        ("INVOKE_PLATFORM_PREFECT_WORKERS", "&a [*a]", ": not a value of type array"),
        ("INVOKE_PLATFORM_PREFECT_WORKERS", "[" * 3000, ": not a value of type array"),
        ("INVOKE_PLATFORM_PREFECT_WORKERS", "[{nam: x}]", ": platform.prefect.workers[0].nam: unknown key"),
        ("INVOKE_PLATFORM_GATEWAY_PORT", "abc", ": platform.gateway.port: 'abc' is not of type integer"),
        ("INVOKE_PLATFORM_GATEWAY_PORT", "70000", ": platform.gateway.port: 70000 is greater"),
        ("INVOKE_PLATFORM_STATE", "a\nb", ": platform.state: contains a line break"),
        ("INVOKE_PLATFORM_STATE", "/", ": platform.state: "),
        ("INVOKE_PLATFORM_STATE", "a\udcffb", ": not UTF-8"),
        ("INVOKE_PLATFORM_PREFECT_WORKERS", "[{name: a\udcffb}]", ": not UTF-8"),
        ("INVOKE_PLATFORM", "1", ": no such setting"),
        ("INVOKE_PLATFORM_", "1", ": no such setting"),
    ],
)
@pytest.mark.parametrize("env", ["local", "a"])
def test_a_wrong_variable_is_named(
    load: Load, tmp_path: Path, variable: str, value: str, says: str, env: str
) -> None:
    """Also where a file sets the same key rightly."""
    raw = {"gateway": {"port": 1}, "environments": {"a": {"state": "x"}}}
    (tmp_path / "invoke.yaml").write_text(
        "platform:\n  gateway: {port: 1}\n  environments: {a: {state: x}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(raw, env=env, environ={variable: value})
    assert caught.value.reason.startswith(f"{variable}{says}")


@pytest.mark.parametrize("as_file", [True, False])
def test_the_variable_of_the_whole_platform_is_refused_by_invokes_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_file: bool
) -> None:
    """Where `platform:` is empty, Invoke would take the variable for its value."""
    if as_file:
        (tmp_path / "invoke.yaml").write_text("platform:\n")
    monkeypatch.setenv("INVOKE_PLATFORM", "1")
    config = PlatformConfig()
    config.set_project_location(tmp_path)
    config.load_project()
    with pytest.raises(ConfigError, match=r"^INVOKE_PLATFORM: no such setting"):
        config.load_shell_env()
