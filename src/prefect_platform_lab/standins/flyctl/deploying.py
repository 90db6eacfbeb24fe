"""Images, releases, and a machine created from them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from . import LABEL, SCHEMA
from .machines import passes, remove, start
from .state import FOLDER, REGISTRY, Json, State, docker, fail, now, option, show


def deploy(state: State, words: list[str]) -> None:
    app = state.app(option(words, "-a"))
    settings = _toml(Path.cwd() / option(words, "-c"))
    image = option(words, "--image")
    if image:
        if docker("image", "inspect", image, check=False).returncode:
            fail(f"failed to fetch an image: could not find image {image!r}")
    else:
        image = f"{REGISTRY}/{app['name']}:{option(words, '--image-label')}"
        built = docker(
            "build",
            "--network",
            "none",
            "-t",
            image,
            "--label",
            f"{LABEL}={app['name']}",
            str(Path.cwd()),
            check=False,
        )
        print(built.stderr[-2000:], file=sys.stderr)
        if built.returncode:
            fail("failed to fetch an image or build from source: error building: see above")
    before = app["machines"][0] if app["machines"] else None
    if before and before["state"] != "started":
        # Seen in the source: a sleeping machine is updated and left asleep.
        before["image_ref"] = _reference(image)
        remove(before)
        _create(app, before, settings, awake=False)
    else:
        machine = before or _machine(app, settings)
        remove(machine)
        machine["image_ref"] = _reference(image)
        _create(app, machine, settings, awake=True)
        if not before:
            app["machines"].append(machine)
    _release(app, image, "complete")
    state.save()
    if not _healthy(app["machines"][0]):
        app["releases"][0]["Status"] = "failed"
        state.save()
        fail("failed to update machine: timeout reached waiting for health checks to pass for machine")
    for secret in app["secrets"].values():
        secret["status"] = "Deployed"
    print("Visit your newly deployed app", file=sys.stderr)


def _toml(file: Path) -> Json:
    import tomllib

    import jsonschema
    import yaml

    found = tomllib.loads(file.read_text())
    try:
        jsonschema.validate(found, yaml.safe_load(SCHEMA.read_text()))
    except jsonschema.ValidationError as error:
        fail(f"fly.toml: {error.json_path}: {error.message}")
    return found


def _reference(image: str) -> Json:
    registry, _, rest = image.partition("/")
    repository, _, tag = rest.partition(":")
    return {"registry": registry, "repository": repository, "tag": tag, "digest": "", "labels": None}


def _machine(app: Json, settings: Json) -> Json:
    number = f"{len(app['machines']) + 1:014x}"
    return {
        "id": number,
        "name": f"machine-{number}",
        "state": "created",
        "region": settings["primary_region"],
        "image_ref": {},
        "created_at": now(),
        "updated_at": now(),
        "config": {"guest": {}, "metadata": {"fly_platform_version": "v2"}},
        "events": [],
        "cordoned": False,
        "container": f"fly-{app['name']}",
    }


def _create(app: Json, machine: Json, settings: Json, awake: bool) -> None:
    volume = app["volumes"][0]
    port = os.environ["FLY_STANDIN_PORT"]
    environ = {**settings.get("env", {}), "FLY_APP_NAME": app["name"], "FLY_MACHINE_ID": machine["id"]}
    environ |= {name: each["value"] for name, each in app["secrets"].items()}
    image = "{registry}/{repository}:{tag}".format(**machine["image_ref"])
    memory = settings["vm"][0]["memory"].replace("gb", "g").replace("mb", "m")
    file = FOLDER / "environ"
    file.touch(0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in environ.items()))
    words = [
        "create",
        "--name",
        machine["container"],
        "--label",
        f"{LABEL}={app['name']}",
        "--network",
        _network(),
    ]
    words += ["--memory", memory, "--memory-swap", memory, "--env-file", str(file)]
    words += ["--restart", settings["restart"][0]["policy"]]
    # In a machine of its own root may set it.
    words += ["--sysctl", "net.ipv4.tcp_migrate_req=1"]
    words += [
        "-v",
        f"{volume['docker']}:{settings['mounts'][0]['destination']}",
        # As others of the organisation reach it.
        "--network-alias",
        f"{app['name']}.internal",
    ]
    if "http_service" in settings:
        words += ["-p", f"127.0.0.1:{port}:{settings['http_service']['internal_port']}"]
    words += ["--stop-signal", settings["kill_signal"], "--stop-timeout", str(settings["kill_timeout"])]
    docker(*words, image)
    file.unlink()
    volume["attached_machine_id"] = machine["id"]
    machine["health"] = _health(settings)
    if awake:
        start(machine)
    else:
        machine["state"] = "stopped"


def _network() -> str:
    """One on which a machine can be reached and reaches nobody outside: its address is not translated."""
    name = "fly-standin"
    if docker("network", "inspect", name, check=False).returncode:
        dull = ("--opt", "com.docker.network.bridge.enable_ip_masquerade=false")
        docker("network", "create", "--label", f"{LABEL}=all", *dull, name)
    return name


def _health(settings: Json) -> Json:
    """What fly.toml asks of a machine: through the edge, or inside of it where nothing is public."""
    if "http_service" in settings:
        return {
            "path": settings["http_service"]["checks"][0]["path"],
            "port": os.environ["FLY_STANDIN_PORT"],
            "public": True,
        }
    return {**{name: settings["checks"]["prefect"][name] for name in ("path", "port")}, "public": False}


def _healthy(machine: Json) -> bool:
    """Its health check, until that passes or its patience ends."""
    end = time.monotonic() + float(os.environ.get("FLY_STANDIN_PATIENCE", "150"))
    while time.monotonic() < end:
        if passes(machine):
            return True
        form = "{{.State.Running}} {{.RestartCount}}"
        if docker("inspect", "--format", form, machine["container"], check=False).stdout.strip() != "true 0":
            return False  # Fly goes on to ask until its time is over
        time.sleep(0.5)
    return False


def _release(app: Json, image: str, result: str) -> None:
    number = app["releases"][0]["Version"] + 1 if app["releases"] else 1
    made = {
        "ID": f"release-{number}",
        "Version": number,
        "Stable": True,
        "InProgress": False,
        "Reason": "",
        "Description": "Release",
        "Status": result,
        "DeploymentStrategy": "rolling",
        "Metadata": None,
        "User": {"ID": "1", "Name": "", "Email": "ops@example.com"},
        "EvaluationID": "",
        "CreatedAt": now(),
        "ImageRef": image,
    }
    app["releases"].insert(0, made)


def releases(state: State, words: list[str]) -> None:
    show(state.app(option(words, "-a"))["releases"][:25])
