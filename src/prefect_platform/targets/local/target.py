"""Target `local`: this machine, no Docker, no root. supervisord runs what the stacks' compose files say; all state in one folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from prefect_platform.config.rules import port_keys
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import ApplyError, PlatformError, PreflightError, ProgramFailed
from prefect_platform.planning.bundle import Bundle, Service
from prefect_platform.planning.diff import Observed, Plan
from prefect_platform.planning.where import Where
from prefect_platform.targets.combined import lock, sqlite
from prefect_platform.targets.combined.supervisord_conf import MARK
from prefect_platform.targets.protocol import LOW_BYTES, Process, Say
from prefect_platform.venvs import installed

from . import apply, logs, observe, preflight, remove, rendered
from .installation import Installation
from .supervisord import UMASK
from .traits import TRAITS


class Target:
    """See targets.Target."""

    traits = TRAITS

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings = settings
        self.say = say
        self.on = Installation(settings, say)
        self.state = settings.state
        self.store = self.on.store
        self.supervisor = self.on.supervisor

    def adapt(self, bundles: list[Bundle]) -> list[Bundle]:
        return bundles

    def lock(self, command: str, wait: float) -> AbstractContextManager[None]:
        """One writer per environment. Raises LockedError."""
        return lock.hold(self.state, command, wait, self.say)

    def where(self, stack: str, scope: str = "environment") -> Where:
        state = str(self.state)
        return Where(
            topology="combined",
            python=str(self.on.python),
            traefik=str(self.on.traefik),
            entrypoint=str(self.settings.vault_folder / "entrypoint.sh"),
            template=str(self.on.template),
            bundle=f"{state}/stacks/{stack}",
            data=f"{state}/data/{stack}",
            routes=f"{state}/stacks/routes",
            secrets=f"{state}/secrets/{stack}.env",
        )

    # -- observing

    def observe(self, bundles: Sequence[Bundle]) -> Observed:
        """The machine as it is now. Files of other stacks are not read."""
        return observe.observe(self.on, bundles)

    # -- before anything is touched

    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Raises PreflightError: damaged database, path too long, disk full, port taken (with its holder)."""
        for stack in apply.with_database(bundles):
            self._check_database(stack)
        if not plan.steps:
            return
        preflight.check_folder(self.state, self.supervisor.socket, installs="runtime" in plan.of("install"))
        starting = {*plan.of("start", "restart")}
        for service in (service for bundle in bundles for service in bundle.services):
            for port in service.ports if service.full_name in starting else ():
                self._check_port(service, port)

    def _check_database(self, stack: Stack) -> None:
        """Before a server starts on it, while the operator still reads the output."""
        database = sqlite.database(self.where(stack.name), stack)
        running = [info["name"] for info in self.supervisor.processes() if info["statename"] == "RUNNING"]
        if sqlite.server(stack) in running or not (self.on.python.exists() and database.parent.is_dir()):
            return
        done = apply.launch(self.on, stack, "check-database", str(database))
        if done.returncode == sqlite.REFUSED:
            raise PreflightError(
                done.stderr.strip(),
                f"./invoke {stack.name}.set-database-aside --yes moves it (nothing is deleted), then ./invoke {stack.name}.setup",
            )

    def _check_port(self, service: Service, port: int) -> None:
        gateway = self.settings.values["gateway"]
        host = gateway["host"] if port == gateway["port"] else "127.0.0.1"
        ours = {info["pid"] for info in self.supervisor.processes()}
        preflight.check_port(
            service.full_name,
            host,
            port,
            lambda process: process.pid in ours or process.environ().get(MARK) == str(self.state),
            port_keys(self.settings, service.stack, port),
        )

    # -- applying-

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Do the steps. Interrupted anywhere, the next observe sees what is left to do."""
        if plan.steps:
            apply.apply(self.on, plan, bundles)

    # -- using----

    def processes(self) -> list[Process]:
        """One per program, as supervisord sees it; memory is resident bytes."""
        return [self._process(info, *judged) for info, judged in self.on.judged()]

    def _process(self, info: Mapping[str, Any], state: str, detail: str) -> Process:
        memory = 0
        with contextlib.suppress(psutil.Error):
            memory = psutil.Process(info["pid"]).memory_info().rss if info["pid"] else 0
        age = int(info["now"] - info["start"]) if info["pid"] else 0
        stack, service = self.on.identity(info["name"])
        said = self.on.launched(info["name"], info["start"]) if info["pid"] else ""
        return Process(stack, service, state, info["pid"], age, memory, detail or said)

    def run_in(self, stack: str, argv: Sequence[str]) -> str:
        """Run a command as the stack's processes run, with its environment and secrets; returns stdout."""
        facts = (record["facts"] for record in self.on.records().values())
        service = next(
            (each for each in facts if each["stack"] == stack and "SECRETS_FILE" in each["environment"]), None
        )
        if service is None:
            raise PlatformError(
                f"{stack}: not set up in environment {self.settings.env!r}", f"./invoke {stack}.setup"
            )
        entry = [*service["argv"][:2], str(self.on.python)]
        env = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), **service["environment"]}
        done = subprocess.run(
            [*entry, *argv],
            env=env,
            cwd=service["working_dir"],
            capture_output=True,
            text=True,
            umask=UMASK,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"{argv[0]} ended with {done.returncode}"
            if preflight.room(self.state) < LOW_BYTES:
                raise ApplyError(said, "free disk space, then run the command again")
            raise ProgramFailed(said, done.returncode)
        return done.stdout

    def tampered(self) -> str | None:
        """See protocol.SharesRuntime."""
        venv = self.on.venv
        return installed.difference(venv, every_file=False) if installed.recorded(venv) else None

    def memory(self) -> int:
        """No stack here takes a share of the machine's."""
        return 0

    def room(self) -> int:
        """Free bytes where the state is."""
        return preflight.room(self.state)

    def tail(self, service: str, lines: int) -> list[str]:
        return logs.tail(self.state / "logs" / f"{service}.log", lines)

    def follow(self, services: Sequence[str]) -> Iterator[tuple[str, str]]:
        return logs.follow({name: self.state / "logs" / f"{name}.log" for name in services})

    def stop(self, services: Sequence[str]) -> None:
        """Stop these processes, dependents first; with none named, everything and supervisord too."""
        if not self.supervisor.alive():
            self.say(f"environment {self.settings.env!r} is not running")
        self._stop(services)

    def _stop(self, services: Sequence[str]) -> None:
        seconds = self.on.stop_seconds()
        infos = self.supervisor.processes()
        names = [info["name"] for info in reversed(infos) if not services or info["name"] in services]
        for name in self.on.in_stop_order(names):
            self.say(f"stopping {name}")
            self.supervisor.stop(name, self.say, seconds.get(name, 60))
        if not services:
            self.supervisor.shutdown(self.say, 30)
            apply.end_orphans(self.on, [record["facts"] for record in self.on.records().values()])

    def restart(self, services: Sequence[str]) -> None:
        """Stop (draining) and start again what already runs, with what it was last given. Raises PreflightError."""
        if not services:
            return
        if not self.supervisor.alive():
            raise PreflightError(
                f"environment {self.settings.env!r} is not running", "./invoke prefect.setup"
            )
        rendered.require(self.on, services)
        seconds = self.on.stop_seconds()
        for name in self.on.in_stop_order(services):
            self.say(f"restarting {name}")
            self.supervisor.stop(name, self.say, seconds.get(name, 60))
            self.on.begin(name)
            self.supervisor.replace(name, wanted=True)

    def known(self) -> list[tuple[str, str]]:
        """(stack, service) of what was started here once and not removed since."""
        return sorted(self.on.identity(name) for name in self.on.records())

    def established(self) -> list[str]:
        """Stacks that are set up here."""
        return sorted({record["facts"]["stack"] for record in self.on.records().values()})

    def set_database_aside(self, stack: Stack) -> list[Path]:
        """Stop the server and give its database's files a name of their own; returns the new names."""
        self._stop([sqlite.server(stack)])
        database, when = sqlite.database(self.where(stack.name), stack), time.strftime("%Y%m%d-%H%M%S")
        aside = []
        # The log first: SQLite would replay it into whatever file appears under the name.
        for file in sorted(database.parent.glob(f"{database.name}*"), reverse=True):
            if file.name in (database.name, f"{database.name}-wal", f"{database.name}-shm"):
                aside.append(file.rename(database.with_name(f"set-aside-{when}-{file.name}")))
        return aside

    def backup(self, stack: Stack, folder: Path, label: str) -> Path:
        """A consistent copy while all runs; returns the file."""
        file = folder / f"{stack.name}-{label}.db"
        sqlite.copy(self, stack, str(file))
        return file

    def restore(self, stack: Stack, file: Path) -> str:
        """A backup's copy in the place of the database, which is kept: returned. Raises PreflightError before anything is stopped."""
        sqlite.check(self, stack, str(file))
        running = any(each.name == sqlite.server(stack) for each in self.processes())
        return sqlite.replace(self, stack, str(file), running=running)

    def removal(self, stack: str, data: bool) -> str:
        there = [name for name in remove.folders(data) if (self.state / name).exists()]
        if not there and not self.on.records() and not self.supervisor.alive():
            return ""
        return remove.told(self.state, data)

    def remove(self, stacks: Mapping[str, Stack], stack: str, data: bool) -> None:
        """Stop everything and delete what was rendered; with `data` the databases, logs and secrets as well. Raises ApplyError."""
        self._stop(())
        remove.remove(self.state, data)
