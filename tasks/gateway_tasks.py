"""Login links for people, tokens for machines."""

from __future__ import annotations

import json as jsonlib

from invoke.context import Context

from prefect_platform.cli import streams

from ._context import platform, require_reader, say
from ._task import task


def _run(c: Context, env: str, *words: str) -> None:
    from prefect_platform.environment import access

    print(access.gateway(platform(c, env), words).rstrip("\n"))


@task(name="login-url")
def login_url(c: Context, env: str = "local") -> None:
    """Print a link that logs a browser in once.

    Example: ./invoke gateway.login-url

    The link is valid for five minutes.
    """
    from prefect_platform.config import sso
    from prefect_platform.environment import access
    from prefect_platform.errors import ConfigError, PlatformError

    p = platform(c, env)
    if sso.guards_prefect(p.settings):
        raise ConfigError(
            f"people sign in at {p.url}/: login links are disabled", "platform.prefect.auth: login-link"
        )
    access.require_door(p)
    require_reader("link")
    link = access.gateway(p, ["login-url"]).rstrip("\n")
    if why := streams.deliver(link):
        raise PlatformError(
            f"gateway.login-url: standard output: {why}: nobody received the link; it ends in five minutes",
            "run it again where its output is read",
        )
    say("the link works once, for five minutes")
    if not access.runs(p):
        say(f"environment {env!r} is not running: until ./invoke prefect.setup nothing answers at that link")


@task(
    name="create-token",
    help={
        "project": "who it is for",
        "service": "what uses it",
        "description": "a note to find it again",
        "expires": "valid for: 12h, 90d, 52w",
        "scope": "what it opens: prefect, prefect:read, metrics, names of routes; several in quotes",
    },
)
def create_token(
    c: Context,
    project: str,
    service: str,
    description: str = "",
    expires: str = "90d",
    scope: str = "prefect",
    env: str = "local",
    json: bool = False,
) -> None:
    """Create a token; it is printed once.

    Example: ./invoke gateway.create-token --project example-app --service worker
    """
    from prefect_platform.environment import access
    from prefect_platform.operations import tokens

    p = platform(c, env)
    tokens.require_scopes(p, scope)
    require_reader("token")
    given = {
        "project": project,
        "service": service,
        "description": description,
        "expires": expires,
        "scope": scope,
    }
    words = [f"--{name}={value}" for name, value in given.items()]  # a value may begin with a dash
    made = jsonlib.loads(access.gateway(p, ["create-token", *words, "--json"]))
    if why := streams.deliver(jsonlib.dumps(made, indent=2) if json else made["token"]):
        raise tokens.revoke_undelivered(p, made["token"], why)
    if not json:
        what = f"{made['subject']}: token {made['jti'][:12]} for {made['scope']}"
        say(f"{what}, valid until {made['expires_at']}; not shown again")


@task(
    name="list-tokens",
    help={
        "all": "include expired and revoked tokens, and sessions",
    },
)
def list_tokens(c: Context, all: bool = False, env: str = "local", json: bool = False) -> None:
    """List tokens and when they were last used.

    Example: ./invoke gateway.list-tokens
    """
    _run(c, env, "list-tokens", *(["--all"] if all else []), *(["--json"] if json else []))


@task(
    name="revoke-token",
    positional={"id": "ID"},
    help={"id": "the token's ID, or at least its first 8 characters"},
)
def revoke_token(c: Context, id: str, env: str = "local") -> None:
    """Revoke a token; takes effect within 5 seconds.

    Example: ./invoke gateway.revoke-token 3f9c2a1b
    """
    from prefect_platform.environment import access

    told = jsonlib.loads(access.gateway(platform(c, env), ["revoke-token", "--json", "--", id]))
    # A gateway of an earlier release does not tell the subject.
    subject = f" ({told['subject']})" if "subject" in told else ""
    print(f"{'was already revoked:' if told['already'] else 'revoked'} {told['jti']}{subject}")


@task(name="rotate-keys")
def rotate_keys(c: Context, env: str = "local") -> None:
    """Add a signing key; restart the verifier.

    Example: ./invoke gateway.rotate-keys

    Tokens signed with the two previous keys stay valid.
    """
    from prefect_platform.errors import PlatformError
    from prefect_platform.operations import deploy
    from prefect_platform.secretstore.store import rotated

    p = platform(c, env)
    with p.target.lock("gateway.rotate-keys", 600):
        store = p.target.store
        keys = store.read("gateway").get("GATEWAY_SIGNING_KEYS")
        if keys is None:
            raise PlatformError("there is no signing key yet", f"./invoke prefect.setup --env {env}")
        store.merge("gateway", {"GATEWAY_SIGNING_KEYS": rotated(keys.value)})
    deploy.setup(p, "gateway", 600)
    say("rotated")
