"""Clients of an environment: this user's Prefect profile, and a GitHub repository's secrets. Each gets a token of its own, which ends with it."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from prefect_platform.config.client_settings import client_settings
from prefect_platform.environment import access
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ApplyError, PlatformError, PreflightError
from prefect_platform.files import write_atomic

EPHEMERAL = "ephemeral"
"""Prefect's own profile of flows that run without a server."""
_URL, _HEADERS = "PREFECT_API_URL", "PREFECT_CLIENT_CUSTOM_HEADERS"


def variables(platform: Platform, token: str) -> dict[str, str]:
    """What a Prefect client needs to come here, as environment variables or a profile's settings.

    Not PREFECT_API_KEY: Prefect's event sockets of a self-hosted API never carry it, and task runs would be lost.
    """
    values = {
        _URL: platform.api_url,
        _HEADERS: json.dumps({"Authorization": f"Bearer {token}"}),
        **client_settings(platform.settings.values),
    }
    if ca_cert := platform.settings.values["gateway"]["ca_cert"]:
        values["PREFECT_API_SSL_CERT_FILE"] = str((platform.settings.root / ca_cert).resolve())
    return values


# -- this user's profile
def connect(platform: Platform) -> str:
    """Make the environment's profile the active one; returns a sentence for the user. Raises PlatformError for a file that is not TOML."""
    file, name, subject = profiles(), _name(platform), _me()
    text = _read(file)
    if _is_there(platform, text, name, subject):
        return f"profile {name} of {file} exists and is active: nothing changed"
    _revoke(platform, subject)
    write_atomic(file, with_profile(text, name, variables(platform, new_token(platform, subject))).encode())
    return f"profile {name} of {file} is active"


def disconnect(platform: Platform) -> str:
    """Take the profile away and revoke its token; flows of this user then run without a server."""
    file, name = profiles(), _name(platform)
    text = _read(file)
    left = without_profile(text, name)
    revoked = _revoke(platform, _me())
    if left == text:
        token = "its token, which was left, is revoked" if revoked else "nothing changed"
        return f"{file} has no profile {name}; {token}"
    write_atomic(file, left.encode())
    return f"{file} no longer has profile {name}; its token is revoked"


def profiles() -> Path:
    """Where Prefect keeps them."""
    home = os.environ.get("PREFECT_HOME") or Path.home() / ".prefect"
    return Path(os.environ.get("PREFECT_PROFILES_PATH") or Path(home) / "profiles.toml").expanduser()


def with_profile(text: str, name: str, values: Mapping[str, str]) -> str:
    """The file with this profile, active. Everything else in it stays, comments too. Pure."""
    document = tomlkit.parse(text)
    document["active"] = name
    document.setdefault("profiles", tomlkit.table(is_super_table=True))[name] = dict(values)
    return tomlkit.dumps(document)


def without_profile(text: str, name: str) -> str:
    """The file without it; if it was the active one, Prefect's own ephemeral profile is. Pure."""
    document = tomlkit.parse(text)
    document.get("profiles", {}).pop(name, None)
    if document.get("active") == name:
        document["active"] = EPHEMERAL
    return tomlkit.dumps(document)


def _read(file: Path) -> str:
    try:
        text = file.read_text()
        tomlkit.parse(text)
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise PlatformError(f"{file}: {error}; nothing was changed", "fix it, or move it aside") from None
    return text


def _is_there(platform: Platform, text: str, name: str, subject: str) -> bool:
    document: Any = tomlkit.parse(text)
    held = document.get("profiles", {}).get(name, {})
    found = re.search(r"Bearer ([\w.-]+)", str(held.get(_HEADERS, "")))
    if document.get("active") != name or found is None:
        return False
    jti = access.part(found[1], 1).get("jti")
    return dict(held) == variables(platform, found[1]) and jti in valid_tokens(platform, subject)


def _name(platform: Platform) -> str:
    return f"platform-{platform.settings.env}"


def _me() -> str:
    return f"connect/{_word(f'{getpass.getuser()}-{socket.gethostname()}')}"


# -- a repository of GitHub
def connect_github(platform: Platform, repository: str) -> str:
    """Set what a workflow passes to Prefect: secrets, with a new token, and variables. Raises PreflightError, ApplyError."""
    subject = f"github/{_word(repository)}"
    variables_set = _set_variables(repository, client_settings(platform.settings.values))
    old = valid_tokens(platform, subject)
    if old and {_URL, _HEADERS} <= _listed(repository, "secret").keys():
        done = f"now has the variables {_and(variables_set)}" if variables_set else "nothing changed"
        return f"{repository} already has its secrets with a valid token: {done}"
    values = variables(platform, new_token(platform, subject))
    for name in (_URL, _HEADERS):
        _gh("secret", "set", name, "--repo", repository, stdin=values[name])
    for jti in old:
        access.gateway(platform, ["revoke-token", jti])
    names = _and([*client_settings(platform.settings.values)])
    return (
        f"{repository} has the secrets {_URL} and {_HEADERS} and the variables {names}: "
        "pass all of them to Prefect's steps as environment variables"
    )


def disconnect_github(platform: Platform, repository: str) -> str:
    """Delete the secrets and the variables, and revoke the token."""
    found = {
        "secret": {_URL, _HEADERS} & _listed(repository, "secret").keys(),
        "variable": client_settings(platform.settings.values).keys() & _listed(repository, "variable").keys(),
    }
    for kind, names in found.items():
        for name in sorted(names):
            _gh(kind, "delete", name, "--repo", repository)
    if not _revoke(platform, f"github/{_word(repository)}") and not any(found.values()):
        return f"{repository} has no secrets of ours; nothing changed"
    return f"{repository} no longer has Prefect's secrets and variables; their token is revoked"


def _set_variables(repository: str, wanted: Mapping[str, str]) -> list[str]:
    """Those that were missing or had another value. Not secrets: GitHub would mask each "30" in the workflow's log."""
    there = _listed(repository, "variable")
    changed = [name for name, value in wanted.items() if there.get(name) != value]
    for name in changed:
        _gh("variable", "set", name, "--repo", repository, stdin=wanted[name])
    return changed


def _listed(repository: str, kind: str) -> dict[str, str]:
    """Names and values; a secret's value is not shown."""
    fields = "name,value" if kind == "variable" else "name"
    known = json.loads(_gh(kind, "list", "--repo", repository, "--json", fields) or "[]")
    return {each["name"]: each.get("value", "") for each in known}


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _gh(*words: str, stdin: str = "") -> str:
    program = shutil.which("gh")
    if program is None:
        raise PreflightError(
            "gh is not installed; it is needed to set GitHub secrets",
            "https://cli.github.com, then gh auth login",
        )
    done = subprocess.run([program, *words], input=stdin, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise ApplyError(
            f"gh {' '.join(words[:2])}: {said}", "gh auth status says who is logged in; then run it again"
        )
    return done.stdout


# -- tokens
def new_token(platform: Platform, subject: str) -> str:
    """Of the gateway, for a year; `subject` is project/service."""
    project, _, service = subject.partition("/")
    words = ["create-token", "--project", project, "--service", service, "--expires", "365d"]
    return access.gateway(platform, words).strip()


def valid_tokens(platform: Platform, subject: str) -> list[str]:
    """The ids of the valid ones."""
    listed: Sequence[Any] = json.loads(access.gateway(platform, ["list-tokens", "--json"]) or "[]")
    return [each["jti"] for each in listed if each["subject"] == subject]


def _revoke(platform: Platform, subject: str) -> bool:
    """Whether there was a token."""
    found = valid_tokens(platform, subject)
    for jti in found:
        access.gateway(platform, ["revoke-token", jti])
    return bool(found)


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")[:60]
