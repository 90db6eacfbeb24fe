"""How the platform's own commands query it: a token, the gateway's command, Prefect's API; and redaction of its output."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect_platform.config import tls
from prefect_platform.errors import ConfigError, PlatformError, PreflightError, ProgramFailed
from prefect_platform.provisioning.prefect.api import PrefectApi
from prefect_platform.secretstore.file_store import FileStore

from .opened import Platform

_TOKEN_DAYS = 90
_RENEW_SECONDS = 30 * 86400
_ENDED = ("STOPPED", "EXITED", "DONE")
_USAGE, _SAYS = 2, "gateway: "
"""The exit code of the gateway's command for an argument that is wrong, and how its message begins."""


def kept_token(platform: Platform) -> str:
    """The platform's own token for its checks, as kept on this machine; empty when setup has to create one."""
    held = held_token(platform)
    return held if held and _signed_here(platform, held) else ""


def held_token(platform: Platform) -> str:
    """The same without a question to where the gateway's keys are: those may have changed since. Empty when it is about to expire."""
    held = FileStore(platform.settings.state / "secrets").read("operator").get("CHECK_TOKEN")
    if held is None or part(held.value, 1).get("exp", 0) - time.time() <= _RENEW_SECONDS:
        return ""
    return held.value


def token(platform: Platform) -> str:
    """The platform's own token for its checks: created once, renewed before it expires, kept like a secret."""
    if kept := kept_token(platform):
        return kept
    store = FileStore(platform.settings.state / "secrets")
    words = ["create-token", "--project", "platform", "--service", "checks", "--scope", "prefect metrics"]
    text = gateway(
        platform, [*words, "--description", "the platform's own checks", "--expires", f"{_TOKEN_DAYS}d"]
    ).strip()
    store.merge("operator", {"CHECK_TOKEN": text})
    return text


def forget_token(platform: Platform) -> None:
    """The gateway no longer knows it: its database is another than when the token was issued (a lost volume)."""
    FileStore(platform.settings.state / "secrets").replace("operator", {})


def _signed_here(platform: Platform, token: str) -> bool:
    """Whether the gateway knows the key that signed it. While the secrets cannot be read, the gateway itself will say."""
    try:
        keys = platform.target.store.read("gateway").get("GATEWAY_SIGNING_KEYS")
    except PlatformError:
        return True
    return keys is not None and part(token, 0).get("kid") in _key_ids(keys.value)


def _key_ids(keys: str) -> set[str]:
    try:
        return {key["kid"] for key in json.loads(keys)}
    except (ValueError, TypeError, KeyError):
        return set()  # what is wrong with the keys, the gateway says: it has to read them


def gateway(platform: Platform, words: Sequence[str]) -> str:
    """Run the gateway's own command where the gateway runs; returns what it printed. Raises ConfigError for a wrong argument."""
    try:
        return platform.target.run_in("gateway", ["-m", "prefect_platform.gateway", *words])
    except ProgramFailed as error:
        raise _explained(platform, words, error) from None


def _explained(platform: Platform, words: Sequence[str], error: ProgramFailed) -> PlatformError:
    reason = error.reason.removeprefix(_SAYS)
    # GATEWAY_…: a variable of its configuration is wrong, no argument.
    if error.code == _USAGE and error.reason.startswith(_SAYS) and not reason.startswith("GATEWAY_"):
        task = f"gateway.{words[0]}"
        lists = "./invoke gateway.list-tokens shows the tokens and their IDs"
        hint = lists if words[0] == "revoke-token" else f"./invoke --help {task}"
        return ConfigError(f"{task}: {reason}", hint)
    if error.hint or "token database" not in error.reason:
        return error
    return PlatformError(error.reason, _database_hint(platform))


def _database_hint(platform: Platform) -> str:
    again = f"./invoke {platform.main}.setup"
    if not platform.settings.values["gateway"]["database_url"]:
        return again
    return f"correct platform.gateway.database_url or GATEWAY_DATABASE_PASSWORD, or make that database reachable; then {again}"


def runs(platform: Platform) -> bool:
    """Whether any process of the environment runs or is to run, beside what its host shares; False also for one never set up."""
    shared = {name for name, each in platform.stacks.items() if each.scope == "host"}
    return any(each.state not in _ENDED and each.stack not in shared for each in platform.target.processes())


def require_door(platform: Platform) -> None:
    """Raises PlatformError unless the gateway and its proxy run: what leads through them would lead nowhere."""
    running = platform.target.processes()
    env = platform.settings.env
    if not any(each.state == "RUNNING" for each in running):
        raise PlatformError(
            f"environment {env!r} is not running: a link would lead nowhere",
            f"./invoke {platform.main}.setup",
        )
    roles = ("gateway", platform.settings.roles.proxy)
    down = [each for each in running if each.stack in roles and each.state not in ("RUNNING", "DONE")]
    if down:
        names = ", ".join(f"{each.name} ({each.state})" for each in down)
        raise PlatformError(
            f"not running: {names}: a link would lead nowhere", f"./invoke {platform.main}.status"
        )


def require_running(platform: Platform) -> None:
    """Raises PreflightError: what asks the services would only report that nothing answers."""
    if not runs(platform):
        raise PreflightError(
            f"environment {platform.settings.env!r} is not running", f"./invoke {platform.main}.setup"
        )


def api(platform: Platform) -> PrefectApi:
    """Prefect's API through the public route, as any client reaches it."""
    return PrefectApi(platform.api_url, token(platform), trust=tls.trust(platform.settings))


def tail(platform: Platform, service: str, lines: int) -> list[str]:
    """The last lines of a service's log, secrets replaced."""
    hide = redactor(platform)
    return [hide(line) for line in platform.target.tail(service, lines)]


def redactor(platform: Platform) -> Callable[[str], str]:
    """Takes every known secret's value out of a text; shows nothing while it cannot be known what they are."""
    try:
        values = secret_values(platform)
    except PlatformError as error:
        reason = error.reason
        return lambda text: f"(hidden: the secrets to redact cannot be read: {reason})"

    def hide(text: str) -> str:
        for value in values:
            text = text.replace(value, "********")
        return text

    return hide


def secret_values(platform: Platform) -> list[str]:
    """Every value to redact, longest first."""
    local = FileStore(platform.settings.state / "secrets")
    held = [
        local.read("operator"),
        *(platform.target.store.read(each.name) for each in platform.stacks.values() if each.secrets),
    ]
    return sorted({secret.value for each in held for secret in each.values()}, key=len, reverse=True)


def part(token: str, number: int) -> dict[str, Any]:
    """Header (0) or claims (1) of a token, unverified: they decide about renewal only."""
    try:
        part = token.split(".")[number]
        return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))
    except (IndexError, ValueError, TypeError):
        return {}
