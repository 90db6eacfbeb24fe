"""Machines: power, commands and files inside, logs."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from pathlib import Path

from .state import Json, State, docker, fail, option, show


def machine_list(state: State, words: list[str]) -> None:
    """Empty keys are left out: a machine that does not run has no checks."""
    show([_shown(each) for each in state.app(option(words, "-a"))["machines"]])


def _shown(machine: Json) -> Json:
    shown = {name: value for name, value in machine.items() if name not in ("container", "health")}
    if machine["state"] == "started":
        status = "passing" if passes(machine) else "critical"
        shown["checks"] = [{"name": "servicecheck-00-http-8080", "status": status, "output": ""}]
    return shown


def passes(machine: Json) -> bool:
    """Its health check, asked once."""
    path, port = machine["health"]["path"], machine["health"]["port"]
    if machine["health"]["public"]:
        asking = ["curl", "-sf", "-m", "5", "-H", "Fly-Client-IP: 203.0.113.9", "-o", "/dev/null"]
    else:
        script = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
        asking = ["docker", "exec", machine["container"], "python", "-c", script]
    asked = subprocess.run(
        [*asking, f"http://127.0.0.1:{port}{path}"], check=False, stderr=subprocess.DEVNULL
    )
    return asked.returncode == 0


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
    found: list[Json] = [
        each for each in state.app(option(words, "-a"))["machines"] if each["id"] == words[2]
    ]
    if not found:
        fail(f"could not get machine {words[2]}: machine not found")
    return found[0]


def machine_start(state: State, words: list[str]) -> None:
    start(_named(state, words))


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
    remove(machine)
    state.app(option(words, "-a"))["machines"].remove(machine)


def machine_exec(state: State, words: list[str]) -> None:
    """Exits 0 whatever the command's code is; that stands in the answer, whose empty keys are left out."""
    machine = _named(state, words)
    if machine["state"] != "started":
        fail("machine not started")
    done = docker("exec", machine["container"], *words[3].split(), check=False)
    answer = {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    show({name: value for name, value in answer.items() if value})


def ssh_console(state: State, words: list[str]) -> None:
    """-C COMMAND, as root, without a shell."""
    machine = state.app(option(words, "-a"))["machines"][0]
    if machine["state"] != "started":
        fail(f"app {option(words, '-a')} has no started VMs")
    command = ["docker", "exec", "-i", "-u", "0", machine["container"], *shlex.split(option(words, "-C"))]
    if code := subprocess.call(command):
        fail(f"ssh shell: Process exited with status {code}")


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
    done = docker("logs", "--timestamps", "--tail", "200", machine["container"])
    for each in sorted((done.stdout + done.stderr).splitlines()):
        moment, _, line = each.partition(" ")
        show(
            {
                "level": "info",
                "instance": machine["id"],
                "message": line,
                "region": "",
                "timestamp": moment,
                "meta": {},
            }
        )


def start(machine: Json) -> None:
    if machine["state"] == "suspended":
        docker("unpause", machine["container"])
    else:
        docker("start", machine["container"])
        docker("exec", "-d", "-u", "0", machine["container"], "python", "-I", "-c", MACHINE_API)
    machine["state"] = "started"


def remove(machine: Json) -> None:
    with contextlib.suppress(KeyError):
        docker("stop", machine["container"], check=False)
        docker("rm", "-f", machine["container"], check=False)
