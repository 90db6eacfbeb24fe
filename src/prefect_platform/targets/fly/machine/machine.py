"""The one program of the machine.

    machine.py start              as root: the volume's owner, one file of secrets per stack, then all as an ordinary user
    machine.py supervise          supervisord, whose output names its program, and which ends when one gives up
    machine.py run STACK WORDS    a command as the stack's processes run; WORDS are base64 of a JSON list
    machine.py exec SERVICE WORDS a command as that process runs
    machine.py status             processes and free space, as JSON
    machine.py stop|restart NAME… processes

Standard library and supervisor alone: it is between the machine's start and Prefect's.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
RUN, DATA, GIVEN = Path("/dev/shm/platform"), Path("/data"), Path("/platform-secrets.json")
USER = 1001
_DROP = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
)
_KEPT = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ"),
    *("FLY_APP_NAME", "FLY_MACHINE_ID", "FLY_REGION", "FLY_MACHINE_VERSION", "FLY_VM_MEMORY_MB"),
)
"""What processes get of the machine's environment. Not its secrets: each process reads its own stack's file."""

sys.path.insert(0, str(HERE))


def main(words: list[str]) -> int:
    """Run one command; return its exit code."""
    command, rest = words[0], words[1:]
    if command == "start":
        return start()
    if command == "supervise":
        return supervise()
    if command == "run":
        return run(rest[0], _words(rest[1]))
    if command == "exec":
        return _as(facts()["services"][rest[0]], _words(rest[1]))
    if command == "status":
        return status()
    return control(command, rest)


def facts() -> dict[str, Any]:
    """What was rendered about the processes: `services` by name, and the names of each stack's `secrets`."""
    return dict(json.loads((HERE / "services.json").read_text()))


def start() -> int:
    known, values = facts(), _secrets()
    lacking = [name for names in known["secrets"].values() for name in names if name not in values]
    if lacking:
        return _fail(f"secrets that are not set: {', '.join(lacking)}; ./invoke prefect.setup sets them")
    if not os.path.ismount(DATA):
        return _fail(f"{DATA}: no volume is mounted; Prefect's data would be lost")
    folders = [RUN, RUN / "secrets", DATA, DATA / "home"]
    folders += [DATA / stack / sub for stack in known["stacks"] for sub in ("", "tmp")]
    for folder in folders:
        _own(folder)
    for stack, names in known["secrets"].items():
        text = "".join(_line(name, values[name]) for name in names)
        file = RUN / "secrets" / f"{stack}.env"
        file.unlink(missing_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(handle, "w") as out:
            out.write(text)
        os.chown(file, USER, USER)
    if known["entry"]:
        import hold

        hold.allow()
    if known["sleep"]:
        _sleeper()
    return _become([sys.executable, "-I", str(HERE / "machine.py"), "supervise"], _environment())


def _sleeper() -> None:
    """The only process that stays root's: Fly's socket is root's. What it does was fixed when the image was made."""
    import sleep

    # Without capabilities root reads what is root's, and no more; the other one may write.
    sleep.PIPE.unlink(missing_ok=True)
    os.mkfifo(sleep.PIPE)
    os.chown(sleep.PIPE, 0, USER)
    sleep.PIPE.chmod(0o620)
    bare = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
    subprocess.Popen([*bare, sys.executable, "-I", str(HERE / "sleep.py"), "ask"], env=_environment())


def _secrets() -> dict[str, str]:
    """Fly gives them as variables; fly.preview as a file, which is read once: an engine shows variables to all its clients."""
    if not GIVEN.exists():
        return dict(os.environ)
    found: dict[str, str] = json.loads(GIVEN.read_text())
    GIVEN.unlink()
    return found


def _own(folder: Path) -> None:
    """The folder, and what root may have left in it (a restored file, an earlier image): the user's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != USER:
        os.chown(folder, USER, USER)
        folder.chmod(0o700)


def _line(name: str, value: str) -> str:
    return f"{name}='" + value.replace("'", "'\\''") + "'\n"


def _environment() -> dict[str, str]:
    # What a flow's pip could write under HOME, no other process may load: there the server would find another Prefect first.
    own = {"HOME": str(DATA / "home"), "PYTHONNOUSERSITE": "1"}
    own |= {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return own | {name: os.environ[name] for name in _KEPT if name in os.environ}


def _become(words: list[str], environ: dict[str, str]) -> NoReturn:
    """Continue as the ordinary user, for good, with this environment and no other."""
    argv = [*(_DROP if os.geteuid() == 0 else ()), *words]
    os.execvpe(argv[0], argv, environ)


def supervise() -> int:
    """supervisord in this process: what it does not do is patched in, rather than run as processes beside it."""
    import hold
    from supervisor import dispatchers, events, options, supervisord
    from supervisor.medusa import asyncore_25 as asyncore
    from supervisor.states import SupervisorStates

    gave_up: list[str] = []

    class Machine(supervisord.Supervisor):  # type: ignore[misc]
        def runforever(self) -> None:
            events.subscribe(events.ProcessStateFatalEvent, self.end)
            # Not earlier: supervisord closes all open descriptors when it starts.
            if entry := facts()["entry"]:
                hold.hold(entry)
            # Its own loop first waits a second for something to happen.
            for group in sorted(self.process_groups.values()):
                group.transition()
            super().runforever()

        def end(self, event: Any) -> None:
            gave_up.append(str(event.process.config.name))
            _fail(f"{gave_up[-1]} keeps exiting: stopping the machine so that Fly restarts it")
            self.options.mood = SupervisorStates.SHUTDOWN

    # Not through a file: who opens the machine's standard output anew must own it, and lines would not name their program.
    dispatchers.POutputDispatcher._log = _named_lines
    chosen = options.ServerOptions()
    chosen.realize(["-c", str(HERE / "supervisord.conf")])
    chosen.first, chosen.test = True, False
    with contextlib.suppress(asyncore.ExitNow):
        Machine(chosen).main()
    return 1 if gave_up else 0


def _named_lines(dispatcher: Any, data: bytes) -> None:
    *lines, rest = (getattr(dispatcher, "rest", b"") + data).split(b"\n")
    if len(rest) > 65536:
        lines, rest = [*lines, rest], b""
    dispatcher.rest = rest
    name = dispatcher.process.config.name.encode()
    sys.stdout.buffer.write(b"".join(name + b" | " + line + b"\n" for line in lines))
    sys.stdout.buffer.flush()


def run(stack: str, words: list[str]) -> int:
    services = [each for each in facts()["services"].values() if each["stack"] == stack]
    service = next((each for each in services if "SECRETS_FILE" in each["environment"]), None)
    if service is None:
        return _fail(f"{stack}: no process of it has secrets here")
    return _as(service, [sys.executable, *words])


def _words(text: str) -> list[str]:
    """Words that neither flyctl nor a shell on the way can split or change."""
    return list(json.loads(base64.urlsafe_b64decode(text)))


def _as(service: dict[str, Any], words: list[str]) -> NoReturn:
    """With the process's user, environment, folder and secrets."""
    # An operator is at work, which keeps a machine awake that would go to sleep.
    (RUN / "active").touch()
    os.chdir(service["working_dir"])
    entrypoint = service["argv"][:2] if "SECRETS_FILE" in service["environment"] else ()
    _become([*entrypoint, *words], {**_environment(), **service["environment"]})


def status() -> int:
    infos, services = _rpc().getAllProcessInfo(), facts()["services"]
    for info in infos:
        info["memory"] = _memory(info["pid"]) if info["pid"] else 0
        info["launched"] = _launched(services.get(info["name"], {}), info["start"])
    total = sum(_memory(int(name)) for name in os.listdir("/proc") if name.isdigit())
    print(json.dumps({"processes": infos, "free": shutil.disk_usage(DATA).free, "memory": total}))
    return 0


def _launched(service: dict[str, Any], since: float) -> str:
    """What its launcher wrote at this start about the Prefect that it started. Flows may write there too, and root reads."""
    file = Path(service.get("environment", {}).get("PLATFORM_LAUNCHED", ""))
    try:
        seen = file.lstat()
        if not stat.S_ISREG(seen.st_mode) or seen.st_mtime < since:
            return ""
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), errors="replace") as opened:
            return opened.read(4000)
    except OSError:
        return ""


def _memory(pid: int) -> int:
    """Resident bytes; 0 for a process that has ended meanwhile."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def control(command: str, names: list[str]) -> int:
    rpc = _rpc()
    for name in names:
        if rpc.getProcessInfo(name)["statename"] in ("RUNNING", "STARTING", "BACKOFF"):
            rpc.stopProcess(name)
        if command == "restart":
            rpc.startProcess(name, False)  # whether it is ready, the operator's side asks
    return 0


def _rpc() -> Any:
    import xmlrpc.client

    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{RUN}/supervisor.sock")
    return xmlrpc.client.ServerProxy("http://local", transport=transport).supervisor


def _fail(text: str) -> int:
    print(f"machine.py: {text}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
