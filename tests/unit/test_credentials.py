"""No setting holds a password: wherever one is put, it is refused by place and never shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from prefect_platform.config import credentials, settings, stack
from prefect_platform.config.schema import compiled
from prefect_platform.errors import ConfigError
from prefect_platform.gateway import settings as gateway_settings

from .conftest import ROOT, TRAITS, Load

SECTIONS = {each.section: each.schema() for each in stack.read_all(ROOT).values()}
SCHEMA = settings.platform_schema(SECTIONS, TRAITS)
PASSWORD = "hunter2'\"x"
URLS = (
    f"postgresql://gw:{PASSWORD}@db.example.com/gw",
    f"redis://:{PASSWORD}@db",
    f"postgresql://gw@db/gw?password={PASSWORD}",
    f"host=db user=gw password={PASSWORD}",
    f"https://a:{PASSWORD}/#?@b",
    f"u:{PASSWORD}@x.org",
    f"https:/u:{PASSWORD}@x.org",
    f"https:\\\\u:{PASSWORD}@x.org",
    f"postgresql://gw%3A{PASSWORD}@db.example.com/gw",
    f"https://u%253A{PASSWORD}@x.org",
    f"https://x.org?pass%77ord={PASSWORD}",
    f"postgresql://gw%40az:{PASSWORD}@127.0.0.1:54321/gw",
    f"postgresql://gw%40az%3A{PASSWORD}@db.example.com/gw",
    f"postgresql://gw%40az%3A%2F{PASSWORD}@db.example.com/gw",
    f"postgresql://gw%2540az:{PASSWORD}@db.example.com/gw",
    f"postgresql://gw:%0A{PASSWORD}@db.example.com/gw",
    f"postgresql://gw%3A%250A{PASSWORD}@db.example.com/gw",
    f"postgresql://gw@az:{PASSWORD}@db.example.com/gw",
    f"postgresql://gw:@{PASSWORD}@db.example.com/gw",
    f"gw%40az:{PASSWORD}@x.org",
    f"gw%40az%3A{PASSWORD}@x.org",
    f"postgresql://gw@db/gw?userPassword={PASSWORD}",
    f"postgresql://gw@db/gw?userpassword={PASSWORD}",
    f"postgresql://gw@db/gw?sslmode=require&db.pass={PASSWORD}",
    f"postgresql://gw@db/gw?dbPass={PASSWORD}",
    f"postgresql://gw@db/gw?password[]={PASSWORD}",
    f"postgresql://gw@db/gw?privateKey={PASSWORD}",
    f"jdbc:postgresql://db/gw;user=gw;password={PASSWORD}",
)


def _texts(schema: Mapping[str, Any], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every setting that can be text; 0 is an item of a list."""
    kinds = schema.get("type", "string")
    if "string" in kinds:
        yield path
    for key, sub in schema.get("properties", {}).items():
        yield from _texts(sub, (*path, key))
    if "items" in schema:
        yield from _texts(schema["items"], (*path, 0))
    if isinstance(schema.get("additionalProperties"), dict):
        yield (*path, "anything")


def _with(path: tuple[str | int, ...], value: str) -> Any:
    if not path:
        return value
    inner = _with(path[1:], value)
    return [inner] if path[0] == 0 else {path[0]: inner}


TEXTS = [path for path in _texts(SCHEMA) if path != ("environments",)]


def test_the_walk_finds_texts_of_every_kind() -> None:
    assert {
        ("gateway", "database_url"),
        ("gateway", "routes", 0, "url"),
        ("gateway", "routes", 0, "allowed_groups", 0),
        ("vault", "seal", "anything"),
        ("prefect", "work_pools", 0, "queues", 0, "name"),
        ("fly", "app"),
        ("host",),
    } <= set(TEXTS)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: ".".join(map(str, path)))
def test_a_password_is_refused_in_every_setting(load: Load, path: tuple[str | int, ...]) -> None:
    for url in URLS:
        raw = _with(path, url)
        for given_settings in (raw, {"environments": {"staging": raw}}):
            with pytest.raises(ConfigError) as caught:
                load(given_settings, env="local")
            assert "hunter2" not in str(caught.value)
            assert f"platform.{path[0]}" in caught.value.reason.replace("environments.staging.", "")
            assert "holds a password" in caught.value.reason


@pytest.mark.parametrize("path", [path for path, _ in settings.leaves(SCHEMA)], ids=".".join)
def test_a_password_is_refused_in_every_variable(load: Load, path: tuple[str, ...]) -> None:
    variable = f"INVOKE_PLATFORM_{'_'.join(path).upper()}"
    for url in URLS:
        with pytest.raises(ConfigError) as caught:
            load({}, environ={variable: url})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("section", ["", "gateway", "prefect"])
def test_a_password_in_a_key_is_refused_and_not_shown(load: Load, section: str) -> None:
    key = {f"https://u:{PASSWORD}@x": 1}
    with pytest.raises(ConfigError) as refused:
        load({section: key} if section else key)
    assert "holds a password" in refused.value.message
    assert PASSWORD not in f"{refused.value.message}{refused.value.hint}"


@pytest.mark.parametrize(
    ("section", "variable"),
    [("gateway", "GATEWAY_DATABASE_PASSWORD"), ("prefect", "PREFECT_SERVER_DATABASE_PASSWORD")],
)
def test_the_command_that_takes_it_is_named(load: Load, section: str, variable: str) -> None:
    raw = {"environments": {"staging": {section: {"database_url": URLS[0]}}}}
    with pytest.raises(ConfigError) as caught:
        load(raw, env="staging")
    assert f"platform.environments.staging.{section}.database_url" in _dotted(caught.value.reason, "staging")
    assert f"export {variable}; ./invoke {section}.setup --env staging" in caught.value.hint
    with pytest.raises(ConfigError, match=f"^INVOKE_PLATFORM_{section.upper()}_DATABASE_URL: holds a pass"):
        load({}, environ={f"INVOKE_PLATFORM_{section.upper()}_DATABASE_URL": URLS[0]})


def _dotted(reason: str, env: str) -> str:
    """Without a file there is no line, and the place is that of the merged settings."""
    return (
        reason if "environments" in reason else reason.replace("platform.", f"platform.environments.{env}.")
    )


@pytest.mark.parametrize("key", ["token", "secret_key", "access_key", "client_secret", "pin"])
def test_a_seal_names_its_key_and_holds_no_credential(load: Load, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"platform\.vault\.seal\.{key}: holds a password") as caught:
        load({"vault": {"seal": {"type": "transit", key: "hunter2"}}})
    assert "hunter2" not in str(caught.value)
    assert "the file that platform.vault.seal_credentials names" in caught.value.hint
    load({"vault": {"seal": {"type": "awskms", "region": "eu-1", "kms_key_id": "alias/vault"}}})


SEALS: tuple[dict[str, Any], ...] = (
    {"type": "pkcs11", "pin": 987654},
    {"type": "pkcs11", "pin": 98.7654},
    {"type": "pkcs11", "userPin": "987654"},
    {"type": "aead", "key": "987654"},
    {"type": "aead", "Key": 987654},
    {"type": "static", "current_key": "987654"},
    {"type": "static", "previous_key": "987654"},
    {"type": "awskms", "session_token": [987654]},
    {"type": "x", "anything": b"postgresql://u:987654@db"},
)


@pytest.mark.parametrize("seal", SEALS, ids=str)
def test_a_seal_s_key_is_refused_whatever_its_type(load: Load, seal: dict[str, Any]) -> None:
    for given_settings in (
        {"vault": {"seal": seal}},
        {"environments": {"staging": {"vault": {"seal": seal}}}},
    ):
        with pytest.raises(ConfigError, match="holds a password") as caught:
            load(given_settings, env="local")
        assert "987654" not in str(caught.value)
    if not isinstance([*seal.values()][-1], bytes):
        with pytest.raises(ConfigError, match=r"^INVOKE_PLATFORM_VAULT_SEAL: .*holds a password") as caught:
            load({}, environ={"INVOKE_PLATFORM_VAULT_SEAL": json.dumps(seal)})
        assert "987654" not in str(caught.value)


@pytest.mark.parametrize(
    "seal",
    [
        {"type": "static", "current_key": "file:///keys/a", "current_key_id": "a1"},
        {"type": "static", "current_key": "env://SEAL_KEY", "current_key_id": "a1"},
        {"type": "gcpckms", "credentials": "/credentials/gcp.json", "key_ring": "r", "crypto_key": "vault"},
        {"type": "pkcs11", "lib": "/usr/lib/p11.so", "slot": 0, "key_label": "vault", "mechanism": "0x1085"},
        {
            "type": "transit",
            "address": "https://v:8200",
            "key_name": "k",
            "tls_client_key": "/a.pem",
            "disable_renewal": True,
        },
    ],
    ids=str,
)
def test_a_seal_s_names_and_references_are_accepted(load: Load, seal: dict[str, Any]) -> None:
    assert load({"vault": {"seal": seal}}).values["vault"]["seal"] == seal


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://postgres@db.example.com:5432/postgres?sslmode=require",
        "https://prefect.example.com:8443",
        "http://[fd00::1]:4200",
        "ghcr.io/goauthentik/server:2026.8.5@sha256:" + "0" * 64,
        "ops@example.com",
        "root@203.0.113.7",
        "postgresql://gw%40az@db.example.com:5432/gw?sslmode=require&sslrootcert=/a/b.crt&pgbouncer=true",
        "postgresql://gw@db/gw?passfile=/a&shopping=1&spinning=2&sslkey=/k.pem&application_name=a",
        "runs that need a token; see https://wiki.example.com/pools",
    ],
)
def test_what_has_no_password_is_none(text: str) -> None:
    assert not credentials.holds_password(text)


@hypothesis_settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: "\n" not in text), st.sampled_from(["", "gw"]))
def test_no_password_hides_behind_its_own_characters(password: str, user: str) -> None:
    assert credentials.holds_password(f"postgresql://{user}:{password}@db/name")


@hypothesis_settings(deadline=None)
@given(st.text(min_size=1), st.text(), st.sampled_from([":", "%3A", "%253a"]))
def test_no_encoding_of_user_or_password_hides_it(password: str, user: str, colon: str) -> None:
    """As `urllib.parse.quote` writes them, once or twice."""
    for url in (f"postgresql://{_quoted(user)}{colon}{_quoted(password)}@db:5432/name",):
        assert credentials.holds_password(url)
        assert credentials.holds_password(url.replace("%", "%25"))


def _quoted(text: str) -> str:
    return quote(text.encode(errors="surrogatepass"), safe="")


def _patterns(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key == "pattern" and isinstance(value, str):
            yield path, value
        else:
            yield from _patterns(value, f"{path}.{key}")


VALID = (
    *(
        "a",
        "admins",
        "a1",
        "a.b",
        "server.py",
        "/a",
        "A_B",
        "1.2.3.4",
        "eu-central-1",
        "iad",
        "512m",
        "1gb",
        "10s",
        "bucket",
    ),
    *("http://a", "https://a.example", "postgresql://u@h/n", "redis:8.10.2", "a@b.example", "prefect", ""),
    "redis/REDIS_PASSWORD",
)
PATTERNS = [*_patterns(SCHEMA), *_patterns(stack._SCHEMA)]


@pytest.mark.parametrize(("place", "pattern"), PATTERNS, ids=[place for place, _ in PATTERNS])
def test_no_pattern_takes_a_line_break_at_the_end(place: str, pattern: str) -> None:
    taken = [value for value in VALID if compiled(pattern).search(value)]
    assert taken, f"{place}: none of the examples fits; add one"
    assert [value for value in taken if compiled(pattern).search(f"{value}\n")] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: ".".join(map(str, path)))
def test_no_setting_takes_a_control_character(load: Load, path: tuple[str | int, ...]) -> None:
    for value in ("a\n", "a\nb", "a\x00", "\x1b[31m", "a\r"):
        if path[-1] == "description":
            continue
        with pytest.raises(ConfigError, match="contains a line break or control character"):
            load(_with(path, value))


def test_a_description_may_have_lines(load: Load) -> None:
    pool = {"name": "a", "description": "one\ntwo\n"}
    chosen = load({"prefect": {"work_pools": [pool], "workers": []}})
    assert chosen.values["prefect"]["work_pools"][0]["description"] == "one\ntwo\n"


def test_a_name_with_a_line_break_is_no_environment(load: Load) -> None:
    with pytest.raises(ConfigError, match="is not an environment name"):
        load({"environments": {"staging\n": {}}})
    with pytest.raises(ConfigError, match="not a name"):
        load({}, env="local\n")


@hypothesis_settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_gateway_reads_the_password_apart_from_the_url(password: str) -> None:
    environ = {
        "GATEWAY_DATABASE_URL": "postgresql://gw@db:5433/name?sslmode=require",
        "GATEWAY_DATABASE_PASSWORD": password,
    }
    url = make_url(gateway_settings.database_url(environ))
    assert (url.username, url.password, url.host, url.port) == ("gw", password, "db", 5433)
