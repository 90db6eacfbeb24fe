"""flyctl's words → what does them."""

from __future__ import annotations

import json
import sys
from typing import Any

from . import apps, deploying, machines
from .state import FOLDER, State, fail, fault

_COMMANDS: dict[str, Any] = {
    "apps create": apps.apps_create,
    "apps destroy": apps.apps_destroy,
    "status": apps.status,
    "platform regions": apps.regions,
    "volumes create": apps.volumes_create,
    "volumes destroy": apps.volumes_destroy,
    "volumes list": apps.volumes_list,
    "secrets import": apps.secrets_import,
    "secrets list": apps.secrets_list,
    "deploy": deploying.deploy,
    "releases": deploying.releases,
    "machine list": machines.machine_list,
    "machine start": machines.machine_start,
    "machine stop": machines.machine_stop,
    "machine suspend": machines.machine_suspend,
    "machine destroy": machines.machine_destroy,
    "machine exec": machines.machine_exec,
    "logs": machines.logs,
    "ssh console": machines.ssh_console,
    "ssh sftp": machines.ssh_sftp,
}


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


if __name__ == "__main__":
    main(sys.argv[1:])
