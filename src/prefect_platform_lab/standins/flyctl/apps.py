"""Apps, volumes, secrets: what exists before a machine does."""

from __future__ import annotations

import hashlib
import sys
import time

from . import LABEL
from .state import REGIONS, Json, State, docker, fail, now, option, show


def apps_create(state: State, words: list[str]) -> None:
    name = words[2]
    if name in state.data["apps"] or name in state.data["taken"]:
        fail("failed to create app: Validation failed: Name has already been taken")
    made: Json = {"name": name, "volumes": [], "secrets": {}, "machines": [], "releases": [], "network": ""}
    state.data["apps"][name] = made
    show({"ID": name, "Name": name, "Status": "pending", "Deployed": False, "Hostname": f"{name}.fly.dev"})


def apps_destroy(state: State, words: list[str]) -> None:
    app = state.app(words[2])
    for machine in app["machines"]:
        docker("rm", "-f", machine["container"], check=False)
    for volume in app["volumes"]:
        docker("volume", "rm", "-f", volume["docker"], check=False)
    del state.data["apps"][words[2]]


def status(state: State, words: list[str]) -> None:
    app = state.app(option(words, "-a"))
    version = app["releases"][0]["Version"] if app["releases"] else 0
    base = {
        "ID": app["name"],
        "Name": app["name"],
        "Deployed": bool(version),
        "Status": "deployed" if version else "pending",
    }
    show(
        {
            **base,
            "Hostname": f"{app['name']}.fly.dev",
            "Version": version,
            "AppURL": "",
            "Organization": {},
            "PlatformVersion": "machines",
            "Machines": app["machines"],
        }
    )


def regions(state: State, words: list[str]) -> None:
    show([{"code": each, "name": each} for each in REGIONS])


def volumes_create(state: State, words: list[str]) -> None:
    if "-y" not in words:
        fail("yes flag must be specified when not running interactively")
    app = state.app(option(words, "-a"))
    number = int(app["volumes"][-1]["docker"].rpartition("-")[2]) + 1 if app["volumes"] else 1
    made = {
        "id": f"vol_{app['name']}{number}",
        "name": words[2],
        "state": "created",
        "size_gb": int(option(words, "-s", default="1")),
        "region": option(words, "-r"),
        "zone": "",
        "encrypted": True,
        "attached_machine_id": None,
        "attached_alloc_id": None,
        "created_at": now(),
        "snapshot_retention": int(option(words, "--snapshot-retention", default="5")),
        "auto_backup_enabled": True,
        "docker": f"fly-{app['name']}-{number}",
    }
    docker("volume", "create", "--label", f"{LABEL}={app['name']}", str(made["docker"]))
    app["volumes"].append(made)
    show(made)


def volumes_destroy(state: State, words: list[str]) -> None:
    if "-y" not in words:
        fail("yes flag must be specified when not running interactively")
    app = state.app(option(words, "-a"))
    found = next((each for each in app["volumes"] if each["id"] == words[2]), None)
    if found is None:
        fail(f"failed to get volume: volume {words[2]!r} not found")
    if found["attached_machine_id"]:
        fail(f"volume {words[2]} is attached to machine {found['attached_machine_id']}")
    docker("volume", "rm", found["docker"])
    app["volumes"].remove(found)


def volumes_list(state: State, words: list[str]) -> None:
    show(state.app(option(words, "-a"))["volumes"])


def secrets_import(state: State, words: list[str]) -> None:
    """By stdin, one NAME=VALUE a line, read as flyctl reads it."""
    if "--stage" not in words:
        fail("this stand-in restarts no machines for secrets: --stage")
    app = state.app(option(words, "-a"))
    for line in sys.stdin.read().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            value = _parsed(value)
            digest = hashlib.sha256(f"{time.time_ns()}{value}".encode()).hexdigest()[:16]
            app["secrets"][name.strip()] = {"value": value, "digest": digest, "status": "Staged"}


def _parsed(value: str) -> str:
    value = value.lstrip(" ")
    for at, char in enumerate(value):
        if char == "#" and value[:at].count('"') % 2 == 0:
            value = value[:at].rstrip(" ")
            break
    for quote in ('"""', '"', "'"):
        if len(value) >= 2 * len(quote) and value.startswith(quote) and value.endswith(quote):
            return value[len(quote) : -len(quote)]
    return value


def secrets_list(state: State, words: list[str]) -> None:
    app = state.app(option(words, "-a"))
    show(
        [
            {"name": name, "digest": each["digest"], "status": each["status"]}
            for name, each in sorted(app["secrets"].items())
        ]
    )
