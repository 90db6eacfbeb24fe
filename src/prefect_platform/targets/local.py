"""Target `local`: this machine, no Docker, no root. supervisord runs what the stacks' compose files say; all state in one folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from .. import venvs
from ..bundle import Bundle, Service, Where
from ..errors import ApplyError, PlatformError, PreflightError
from ..files import make_private, write_atomic
from ..plan import Observed, Plan, Running, wanted_files
from ..secretstore import FileStore
from ..settings import Settings
from ..stack import Stack
from . import (
    LOW_BYTES,
    Process,
    Say,
    WithoutReleases,
    _lock,
    _logs,
    _preflight,
    _processes,
    _records,
    _routes,
)
from ._supervisor import MARK, Supervisor, configuration, end, lost_supervisors, orphans

_DATABASE_REFUSED = 3  # exit code of stacks/prefect/server.py


class Target(WithoutReleases):
    """See targets.Target. State: run/ (supervisord), stacks/ (rendered), data/, logs/, secrets/, services.json (what was started)."""

    name = "local"
    combined = True

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings = settings
        self.say = say
        self.state = settings.state
        self.lock_file = settings.root / "requirements" / "runtime.txt"
        self.runtime = hashlib.sha256(_preflight.read_runtime_lock(self.lock_file)).hexdigest()[:12]
        self.venv = self.state.parent / "runtime" / self.runtime
        self.python = self.venv / "bin" / "python"
        self.store = FileStore(self.state / "secrets")
        self.supervisor = Supervisor(self.state, self.python)

    def finish(self, bundle: Bundle) -> Bundle:
        return bundle

    def lock(self, command: str, wait: float) -> AbstractContextManager[None]:
        """One writer per environment. Raises LockedError."""
        return _lock.hold(self.state, command, wait, self.say)

    def where(self, stack: str, scope: str = "environment") -> Where:
        state = str(self.state)
        return Where(
            topology="combined",
            python=str(self.python),
            traefik=str(self.venv / "bin" / "traefik"),
            entrypoint=str(self.settings.root / "vault" / "entrypoint.sh"),
            template=str(self.venv / "prefect-template.db"),
            bundle=f"{state}/stacks/{stack}",
            data=f"{state}/data/{stack}",
            routes=f"{state}/stacks/routes",
            secrets=f"{state}/secrets/{stack}.env",
        )

    # -- observing ---------------------------------------------------------------------------------------------------

    def observe(self, stacks: Sequence[Stack]) -> Observed:
        """The machine as it is now. Files of other stacks than these are not looked at."""
        records = self._records()
        current = venvs.is_current(self.venv, self.lock_file.read_bytes()) if self.venv.exists() else False
        runtimes = self.venv.parent.exists() and any(self.venv.parent.iterdir())
        running = {
            info["name"]: Running(
                state,
                info["pid"],
                records.get(info["name"], {}).get("facts"),
                records.get(info["name"], {}).get("secret_version", ""),
            )
            for info, (state, _) in self._judged()
        }
        return Observed(
            runtime=self.runtime if current else ("another" if runtimes else None),
            supervisor=self.supervisor.alive(),
            files=self._files({stack.name for stack in stacks}),
            running=running,
            missing={stack.name: tuple(spec.name for spec in self.store.missing(stack)) for stack in stacks},
            secret_versions={stack.name: self.store.version(stack) for stack in stacks},
        )

    def _files(self, stacks: set[str]) -> dict[str, bytes]:
        base = self.state / "stacks"
        files = {}
        for path in base.rglob("*"):
            name = path.relative_to(base)
            mine = name.parts[0] in stacks or (name.parts[0] == "routes" and path.stem in stacks)
            if mine and path.is_file() and "__pycache__" not in name.parts and path.suffix != ".tmp":
                files[str(name)] = path.read_bytes()
        return files

    def _records(self) -> dict[str, Any]:
        return _records.read(self.state / "services.json")

    # -- before anything is touched ----------------------------------------------------------------------------------

    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Raises PreflightError: damaged database, path too long, disk full, port taken (with its holder)."""
        self._check_database()
        if not plan.steps:
            return
        _preflight.check_folder(self.state, self.supervisor.socket, installs="runtime" in plan.of("install"))
        starting = {*plan.of("start", "restart")}
        for service in (service for bundle in bundles for service in bundle.services):
            for port in service.ports if service.full_name in starting else ():
                self._check_port(service, port)

    def _check_database(self) -> None:
        """Before a server starts on it, while whoever asked is still there to read what is wrong."""
        database, running = (
            self.database(),
            [info["name"] for info in self.supervisor.processes() if info["statename"] == "RUNNING"],
        )
        if "prefect-server" in running or not (self.python.exists() and database.parent.is_dir()):
            return
        done = self._launcher("check-database", str(database))
        if done.returncode == _DATABASE_REFUSED:
            raise PreflightError(
                done.stderr.strip(),
                "./invoke prefect.set-database-aside --yes moves it (nothing is deleted), then ./invoke prefect.setup",
            )

    def _check_port(self, service: Service, port: int) -> None:
        gateway = self.settings.values["gateway"]
        host = gateway["host"] if port == gateway["port"] else "127.0.0.1"
        ours = {info["pid"] for info in self.supervisor.processes()}
        _preflight.check_port(
            service.full_name,
            host,
            port,
            lambda process: process.pid in ours or process.environ().get(MARK) == str(self.state),
        )

    # -- applying ----------------------------------------------------------------------------------------------------

    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Do the steps. Interrupted anywhere, the next observe sees what is left to do."""
        if not plan.steps:
            return
        for folder in (
            "run",
            "logs",
            "stacks/routes",
            "secrets",
            *(f"data/{bundle.stack.name}/tmp" for bundle in bundles),
        ):
            make_private(self.state / folder)
        self._install(plan)
        for bundle in bundles:
            self.store.ensure(bundle.stack)
        self._check_routes(plan, bundles)
        services = [service for bundle in bundles for service in bundle.services]
        versions = {bundle.stack.name: self.store.version(bundle.stack) for bundle in bundles}
        self._stop_changed(plan, services)
        self._write(plan, bundles)
        write_atomic(
            self.supervisor.config,
            configuration(str(self.state), self.settings.env, services, versions).encode(),
        )
        self._start(plan, services, versions)

    def complete(self, bundles: Sequence[Bundle]) -> tuple[str, ...]:
        return ()

    def _install(self, plan: Plan) -> None:
        if "runtime" in plan.of("install"):
            self.say("installing the runtime (Prefect, Traefik, supervisord): about a minute, once")
            make_private(self.venv.parent)
            venvs.ensure(self.venv, self.lock_file, self.say)
        template = Path(self.where("prefect").template)
        if not template.exists():
            self.say("preparing an empty Prefect database: a few seconds, once")
            done = self._launcher("make-template", str(template))
            if done.returncode:
                raise ApplyError(
                    f"server.py make-template: {done.stderr.strip()[-800:]}", "run the command again"
                )

    def _launcher(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of Prefect's launcher, as it stands in the stack folder: it may not be rendered yet."""
        file = self.settings.root / "stacks" / "prefect" / "server.py"
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.venv), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([str(self.python), str(file), *words], env=env, capture_output=True, text=True)

    def _check_routes(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        if any(subject.startswith("routes/") for subject in plan.of("write")):
            routes = {
                name: content for name, content in wanted_files(bundles).items() if name.startswith("routes/")
            }
            _routes.check(self.venv / "bin" / "traefik", routes, self.state / "run")

    def _stop_changed(self, plan: Plan, services: Sequence[Service]) -> None:
        """Before files change: a process must not read half of the old and half of the new. Workers first, they need the server."""
        self._end_orphans([service.facts() for service in services])
        seconds = {service.full_name: service.stop_seconds for service in services}
        order = [service.full_name for service in reversed(services)]
        stopping = [*plan.of("stop"), *sorted(plan.of("restart"), key=order.index)]
        for name in stopping:
            self.say(f"stopping {name}")
            self._record(name, None)
            self.supervisor.stop(name, self.say, seconds.get(name, 60))

    def _end_orphans(self, facts: Sequence[Mapping[str, Any]]) -> None:
        """End what no supervisord of ours looks after any more, before it meets what is started or deleted next."""
        patience = max((each["stop_seconds"] for each in facts), default=60)
        end(lost_supervisors(self.supervisor.config, self.supervisor.pid()), patience)
        known = {info["pid"] for info in self.supervisor.processes()} - {0}
        lost = orphans(self.state, known, [each["argv"] for each in facts])
        if lost:
            self.say(f"ending {len(lost)} processes whose supervisord is gone")
            end(lost, patience)

    def _write(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        wanted = wanted_files(bundles)
        for path in plan.of("write"):
            write_atomic(self.state / "stacks" / path, wanted[path])
        for path in plan.of("delete"):
            (self.state / "stacks" / path).unlink(missing_ok=True)

    def _start(self, plan: Plan, services: Sequence[Service], versions: Mapping[str, str]) -> None:
        declared = {service.full_name for service in services}
        starting = plan.of("start", "restart")
        fresh = not self.supervisor.alive()
        if fresh:
            self.supervisor.start()
        else:
            for name in plan.of("stop"):
                self.supervisor.replace(name, wanted=False)
        for service in services:
            name = service.full_name
            if name in starting or fresh:
                if not fresh:
                    self.say(f"starting {name}")
                    self.supervisor.replace(name, wanted=name in declared)
                record = {"facts": service.facts(), "secret_version": versions[service.stack]}
                self._record(name, {**record, "since": time.time()})

    def _record(self, name: str, record: Mapping[str, Any] | None) -> None:
        _records.write(self.state / "services.json", name, record)

    # -- using -------------------------------------------------------------------------------------------------------

    def processes(self) -> list[Process]:
        """One per program, as supervisord sees it; memory is resident bytes."""
        return [self._process(info, *judged) for info, judged in self._judged()]

    def _judged(self) -> list[tuple[dict[str, Any], tuple[str, str]]]:
        since = {name: record.get("since", 0) for name, record in self._records().items()}
        ends = _processes.unasked_ends(self.state / "logs" / "supervisord.log", since)
        infos = self.supervisor.processes()
        return [(info, _processes.judge(info, ends.get(info["name"], []))) for info in infos]

    def _process(self, info: Mapping[str, Any], state: str, detail: str) -> Process:
        memory = 0
        with contextlib.suppress(psutil.Error):
            memory = psutil.Process(info["pid"]).memory_info().rss if info["pid"] else 0
        age = int(info["now"] - info["start"]) if info["pid"] else 0
        return Process(info["name"], state, info["pid"], age, memory, detail)

    def run_in(self, stack: str, argv: Sequence[str]) -> str:
        """Run a command as the stack's processes run, with its environment and secrets; returns stdout."""
        facts = (record["facts"] for record in self._records().values())
        service = next(
            (each for each in facts if each["stack"] == stack and "SECRETS_FILE" in each["environment"]), None
        )
        if service is None:
            raise PlatformError(
                f"{stack}: not set up in environment {self.settings.env!r}", "./invoke prefect.setup"
            )
        entry = [*service["argv"][:2], str(self.python)]
        env = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), **service["environment"]}
        done = subprocess.run(
            [*entry, *argv], env=env, cwd=service["working_dir"], capture_output=True, text=True
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"{argv[0]} ended with {done.returncode}"
            if _preflight.room(self.state) < LOW_BYTES:
                raise ApplyError(said, "free disk space, then run the command again")
            raise PlatformError(said)
        return done.stdout

    def room(self) -> int:
        """Free bytes where the state is."""
        return _preflight.room(self.state)

    def tail(self, service: str, lines: int) -> list[str]:
        return _logs.tail(self.state / "logs" / f"{service}.log", lines)

    def follow(self, services: Sequence[str]) -> Iterator[tuple[str, str]]:
        return _logs.follow({name: self.state / "logs" / f"{name}.log" for name in services})

    def stop(self, services: Sequence[str]) -> None:
        """Stop these processes, workers first; with none named, everything and supervisord too."""
        seconds = {name: record["facts"]["stop_seconds"] for name, record in self._records().items()}
        infos = self.supervisor.processes()
        names = [info["name"] for info in reversed(infos) if not services or info["name"] in services]
        for name in sorted(names, key=lambda name: "worker" not in name):
            self.say(f"stopping {name}")
            self.supervisor.stop(name, self.say, seconds.get(name, 60))
        if not services:
            self.supervisor.shutdown(self.say, 30)
            self._end_orphans([record["facts"] for record in self._records().values()])

    def restart(self, services: Sequence[str]) -> None:
        """Stop (draining) and start again what already runs, with what it was last given."""
        seconds = {name: record["facts"]["stop_seconds"] for name, record in self._records().items()}
        for name in sorted(services, key=lambda name: "worker" not in name):
            self.say(f"restarting {name}")
            self.supervisor.stop(name, self.say, seconds.get(name, 60))
            self.supervisor.replace(name, wanted=True)

    def known(self) -> list[str]:
        """Services that were started here once and not removed since."""
        return sorted(self._records())

    def established(self) -> list[str]:
        """Stacks that are set up here."""
        return sorted({record["facts"]["stack"] for record in self._records().values()})

    def database(self) -> Path:
        return Path(self.where("prefect").data) / "prefect.db"

    def set_database_aside(self) -> list[Path]:
        """Stop the server and give its database's files a name of their own; returns the new names."""
        self.stop(["prefect-server"])
        database, when = self.database(), time.strftime("%Y%m%d-%H%M%S")
        aside = []
        # The log first: SQLite would replay it into whatever file appears under the name.
        for file in sorted(database.parent.glob(f"{database.name}*"), reverse=True):
            if file.name in (database.name, f"{database.name}-wal", f"{database.name}-shm"):
                aside.append(file.rename(database.with_name(f"set-aside-{when}-{file.name}")))
        return aside

    def remove(self, data: bool) -> None:
        """Stop everything and delete what was rendered; with `data` the databases, logs and secrets as well."""
        self.stop(())
        for folder in ("run", "stacks", *(("data", "logs", "secrets") if data else ())):
            shutil.rmtree(self.state / folder, ignore_errors=True)
        (self.state / "services.json").unlink(missing_ok=True)
