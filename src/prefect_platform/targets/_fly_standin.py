"""A flyctl for tests, beside the code that calls the real one: `python _fly_standin.py WORDS…`. Not part of any deployment.

Shapes, messages and exit codes are those of flyctl's source (2026-08, fly-go 0.9.6). Fly's side of it is one JSON file; an image is built and the machine
runs in a Docker engine, with the machine's memory, its volume, its secrets in the environment and no way out. It understands what the platform calls; everything
else is an error, and so is a question: there is nobody to ask.

    FLY_STANDIN         folder of its state (`fly.json`), its log of calls (`calls.jsonl`: words, never what came by stdin) and `faults.json`
    DOCKER_HOST         the engine; FLY_STANDIN_PORT: the port on 127.0.0.1 where the edge listens
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

Json = dict[str, Any]
FOLDER = Path(os.environ.get("FLY_STANDIN", "."))
REGISTRY = "registry.fly.io"
REGIONS = ("ams", "fra", "iad", "sjc")
SCHEMA = Path(__file__).with_name("_fly_toml.schema.yml")
LABEL = "prefect-platform.fly-standin"
EMPTY: Json = {"apps": {}, "taken": ["taken-by-somebody"], "login": True}


class State:
    """Fly's side, kept between calls."""

    def __init__(self) -> None:
        self.file = FOLDER / "fly.json"
        self.data: Json = json.loads(self.file.read_text()) if self.file.exists() else dict(EMPTY)

    def save(self) -> None:
        self.file.write_text(json.dumps(self.data, indent=1))

    def app(self, name: str) -> Json:
        if name not in self.data["apps"]:
            fail(f'Could not find App "{name}"')
        found: Json = self.data["apps"][name]
        return found


def fail(message: str) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    raise SystemExit(1)


def show(data: Any) -> None:
    print(json.dumps(data, indent=4))


def option(words: list[str], *names: str, default: str = "") -> str:
    """The value of an option."""
    return next((words[words.index(name) + 1] for name in names if name in words), default)


def fault(kind: str) -> Json | None:
    """A fault that a test has asked for: used up by this."""
    file = FOLDER / "faults.json"
    faults: dict[str, Json] = json.loads(file.read_text()) if file.exists() else {}
    found = faults.pop(kind, None)
    if found is not None:
        file.write_text(json.dumps(faults))
    return found


def main(words: list[str]) -> None:
    with (FOLDER / "calls.jsonl").open("a") as log:
        log.write(json.dumps(words) + "\n")
    state = State()
    if not state.data["login"]:
        fail("No access token available. Please login with 'flyctl auth login'")
    if (found := fault(" ".join(words[:2]))) is not None:
        fail(str(found["said"]))
    command = _COMMANDS.get(" ".join(words[:2])) or _COMMANDS.get(words[0])
    if command is None:
        fail(f'unknown command {" ".join(words[:2])!r} for "flyctl"')
    command(state, words)
    state.save()


# -- apps and volumes
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
    number = len(app["volumes"]) + 1
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
        "created_at": _now(),
        "snapshot_retention": int(option(words, "--snapshot-retention", default="5")),
        "auto_backup_enabled": True,
        "docker": f"fly-{app['name']}-{number}",
    }
    docker("volume", "create", "--label", f"{LABEL}={app['name']}", str(made["docker"]))
    app["volumes"].append(made)
    show(made)


def volumes_list(state: State, words: list[str]) -> None:
    show(state.app(option(words, "-a"))["volumes"])


# -- secrets
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


# -- deploying
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
    found = fault("deploy machine")
    before = app["machines"][0] if app["machines"] else None
    if before and before["state"] != "started":
        # Seen in the source: a sleeping machine is updated and left asleep.
        before["image_ref"] = _reference(image)
        _remove(before)
        _create(app, before, settings, start=False)
    else:
        machine = before or _machine(app, settings)
        _remove(machine)
        machine["image_ref"] = _reference(image)
        _create(app, machine, settings, start=True)
        if not before:
            app["machines"].append(machine)
    _release(app, image, "failed" if found else "complete")
    state.save()
    if found or not _healthy(app["machines"][0], settings):
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
        "created_at": _now(),
        "updated_at": _now(),
        "config": {"guest": {}, "metadata": {"fly_platform_version": "v2"}},
        "events": [],
        "checks": [],
        "cordoned": False,
        "container": f"fly-{app['name']}",
    }


def _create(app: Json, machine: Json, settings: Json, start: bool) -> None:
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
    words += ["--memory", memory, "--memory-swap", memory, "--env-file", str(file), "--restart", "no"]
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
    if start:
        _start(machine)
    else:
        machine["state"] = "stopped"


def _network() -> str:
    """One on which a machine can be reached and reaches nobody outside: its address is not translated."""
    name = "fly-standin"
    if docker("network", "inspect", name, check=False).returncode:
        dull = ("--opt", "com.docker.network.bridge.enable_ip_masquerade=false")
        docker("network", "create", "--label", f"{LABEL}=all", *dull, name)
    return name


def _start(machine: Json) -> None:
    if machine["state"] == "suspended":
        docker("unpause", machine["container"])
    else:
        docker("start", machine["container"])
        docker("exec", "-d", "-u", "0", machine["container"], "python", "-I", "-c", MACHINE_API)
    machine["state"] = "started"


def _remove(machine: Json) -> None:
    with contextlib.suppress(KeyError):
        docker("stop", machine["container"], check=False)
        docker("rm", "-f", machine["container"], check=False)


def _healthy(machine: Json, settings: Json) -> bool:
    """The health check of fly.toml, asked as the edge does (a private one: in the machine), until it passes or its patience ends."""
    if "http_service" in settings:
        path, port = settings["http_service"]["checks"][0]["path"], os.environ["FLY_STANDIN_PORT"]
        asking = ["curl", "-sf", "-m", "5", "-H", "Fly-Client-IP: 203.0.113.9", "-o", "/dev/null"]
    else:
        path, port = settings["checks"]["prefect"]["path"], settings["checks"]["prefect"]["port"]
        script = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
        asking = ["docker", "exec", machine["container"], "python", "-c", script]
    end = time.monotonic() + 150
    while time.monotonic() < end:
        asked = subprocess.run(
            [*asking, f"http://127.0.0.1:{port}{path}"], check=False, stderr=subprocess.DEVNULL
        )
        if asked.returncode == 0:
            return True
        shown = docker("inspect", "--format", "{{.State.Running}}", machine["container"], check=False)
        if shown.stdout.strip() != "true":
            return False
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
        "CreatedAt": _now(),
        "ImageRef": image,
    }
    app["releases"].insert(0, made)


def releases(state: State, words: list[str]) -> None:
    show(state.app(option(words, "-a"))["releases"][:25])


# -- machines
def machine_list(state: State, words: list[str]) -> None:
    app = state.app(option(words, "-a"))
    show([{name: value for name, value in each.items() if name != "container"} for each in app["machines"]])


MACHINE_API = r"""
import http.server, os, pathlib, socketserver
class Api(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open('/.fly/asked', 'a') as file:
            file.write(self.path + chr(10))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ok":true}')
    def address_string(self):
        return 'machine'
pathlib.Path('/.fly').mkdir(mode=0o700, exist_ok=True)
pathlib.Path('/.fly/api').unlink(missing_ok=True)
socketserver.UnixStreamServer('/.fly/api', Api).serve_forever()
"""
"""Fly's socket in the machine, which privileged processes may talk to: what it was asked stands in /.fly/asked, and a test plays the rest."""


def _named(state: State, words: list[str]) -> Json:
    for machine in state.app(option(words, "-a"))["machines"]:
        if machine["id"] == words[2]:
            found: Json = machine
            return found
    fail(f"could not get machine {words[2]}: machine not found")


def machine_start(state: State, words: list[str]) -> None:
    _start(_named(state, words))


def machine_stop(state: State, words: list[str]) -> None:
    machine = _named(state, words)
    docker("stop", machine["container"])
    machine["state"] = "stopped"


def machine_suspend(state: State, words: list[str]) -> None:
    """Frozen, and later thawed, with all that it has in memory."""
    machine = _named(state, words)
    docker("pause", machine["container"])
    machine["state"] = "suspended"


def machine_destroy(state: State, words: list[str]) -> None:
    machine = _named(state, words)
    _remove(machine)
    state.app(option(words, "-a"))["machines"].remove(machine)


def machine_exec(state: State, words: list[str]) -> None:
    """Exits 0 whatever the command's code is; that stands in the answer, whose empty keys are left out."""
    machine = _named(state, words)
    if machine["state"] != "started":
        fail("machine not started")
    done = docker("exec", machine["container"], *words[3].split(), check=False)
    answer = {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    show({name: value for name, value in answer.items() if value})


def ssh_sftp(state: State, words: list[str]) -> None:
    """get REMOTE LOCAL, put LOCAL REMOTE, as root; neither writes over a file."""
    machine = state.app(option(words, "-a"))["machines"][0]
    if machine["state"] != "started":
        fail(f"app {option(words, '-a')} has no started VMs")
    _, _, verb, source, sink = words[:5]
    if verb == "get":
        if Path(sink).exists():
            fail(f"file {sink} is already there. `fly ssh` doesn't override existing files for safety.")
        docker("cp", f"{machine['container']}:{source}", sink)
        print(f"{Path(sink).stat().st_size} bytes written to {sink}")
        return
    if docker("exec", machine["container"], "test", "-e", sink, check=False).returncode == 0:
        fail(f"remote file {sink} already exists. flyctl sftp doesn't overwrite existing files for safety")
    docker("cp", source, f"{machine['container']}:{sink}")
    docker("exec", "-u", "0", machine["container"], "chown", "0:0", sink)
    docker("exec", "-u", "0", machine["container"], "chmod", "0644", sink)


def logs(state: State, words: list[str]) -> None:
    """Objects, not one to a line."""
    machine = state.app(option(words, "-a"))["machines"][0]
    done = docker("logs", "--tail", "200", machine["container"])
    for line in (done.stdout + done.stderr).splitlines():
        show(
            {
                "level": "info",
                "instance": machine["id"],
                "message": line,
                "region": "",
                "timestamp": _now(),
                "meta": {},
            }
        )


def docker(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        fail(f"docker {words[0]}: {done.stderr[-500:]}")
    return done


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


_COMMANDS: dict[str, Any] = {
    "apps create": apps_create,
    "apps destroy": apps_destroy,
    "status": status,
    "platform regions": regions,
    "volumes create": volumes_create,
    "volumes list": volumes_list,
    "secrets import": secrets_import,
    "secrets list": secrets_list,
    "deploy": deploy,
    "releases": releases,
    "machine list": machine_list,
    "machine start": machine_start,
    "machine stop": machine_stop,
    "machine suspend": machine_suspend,
    "machine destroy": machine_destroy,
    "machine exec": machine_exec,
    "logs": logs,
    "ssh sftp": ssh_sftp,
}


if __name__ == "__main__":
    main(sys.argv[1:])
