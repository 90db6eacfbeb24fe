"""Target `compose`: a host with Docker, over SSH. Each stack is a Compose project of its own; every deploy is a release folder on the host."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..bundle import Bundle, Where
from ..errors import ApplyError, ConfigError, PlatformError, PreflightError
from ..plan import Observed, Plan, Running
from ..runner import LocalRunner, Runner, SshRunner
from ..secretstore import FileStore, SecretStore
from ..settings import Settings
from ..stack import Stack
from . import Entry, Process, Say, _compose_file, _databases, _health, _names, _releases, _vault_access
from ._compose_file import DIGEST
from ._host import Host

_FREE_BYTES = 2 * 1024**3
_UP_SECONDS = 240
_KEPT_RELEASES = 10
_STATES = {
    "running": "RUNNING",
    "restarting": "FATAL",
    "exited": "EXITED",
    "dead": "EXITED",
    "created": "STOPPED",
}


class Target:
    """See targets.Target."""

    name = "compose"
    runtime = ""
    combined = False

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings = settings
        self.say = say
        self.host = Host(_runner(settings), settings.values["root"])
        # Vault is the host's, not an environment's, and so is the operator's token for it.
        kept = FileStore(
            settings.state.parent / "hosts" / re.sub(r"[^A-Za-z0-9.-]", "_", self.host.runner.place)
        )
        self.vault = _vault_access.Access(self.host, settings, kept, say)

    # -- names
    def lock(self, command: str, wait: float) -> AbstractContextManager[None]:
        """One writer per environment, and per host for what all share. Raises LockedError."""
        who = f"{command} by {_releases.who()} (pid {os.getpid()}, since {datetime.datetime.now():%H:%M:%S})"
        return self.host.lock(f"{self.host.root}/{self.settings.env}", who, wait)

    def placed(self, stack: Stack) -> _names.Placed:
        return _names.placed(self.settings, stack)

    def where(self, stack: str, scope: str = "environment") -> Where:
        return _names.where(self.settings, scope, self.host.facts().memory)

    def _edges(self) -> list[str]:
        """The edge networks that are there: Traefik stands in that of every environment of the host."""
        return self.host.docker(
            "network", "ls", "--filter", "label=prefect-platform.edge", "--format", "{{.Name}}"
        ).text.split()

    def finish(self, bundle: Bundle) -> Bundle:
        """The bundle as this host gets it."""
        stack = bundle.stack
        edges = self._edges() if stack.scope == "host" else []
        return _compose_file.finish(
            bundle, _names.frame(self.settings, stack, self.host.facts().memory, edges)
        )

    # -- observing
    def observe(self, stacks: Sequence[Stack]) -> Observed:
        """What stands on the host: the current releases' files, the containers, the secrets that Vault has."""
        files: dict[str, bytes] = {}
        running: dict[str, Running] = {}
        missing: dict[str, tuple[str, ...]] = {}
        for stack in stacks:
            folder = self.placed(stack).folder
            current = self.host.read_folder(f"{folder}/current")
            facts = json.loads(current.pop("services.json", b"{}"))
            current.pop(
                "routes.yml", None
            )  # what a rollback serves again; what is served now stands elsewhere
            files |= {f"{stack.name}/{path}": body for path, body in current.items()}
            files |= self._routes_of(stack)
            running |= self._running(stack, facts)
            missing[stack.name] = self._missing(stack)
        return Observed("", True, files, running, missing, {})

    def _missing(self, stack: Stack) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.store.missing(stack)) if stack.secrets else ()

    def _routes_of(self, stack: Stack) -> dict[str, bytes]:
        file = f"{self.host.root}/host/routes/{self._routes_name(stack)}"
        body = self.host.sh('cat "$1" 2>/dev/null || true', file).stdout
        return {f"routes/{stack.name}.yml": body} if body else {}

    def _routes_name(self, stack: Stack) -> str:
        return f"{self.placed(stack).scope}-{stack.name}.yml"

    def _running(self, stack: Stack, facts: Mapping[str, Any]) -> dict[str, Running]:
        found = {}
        for each in self.host.containers(env=self.placed(stack).scope, stack=stack.name):
            labels = each["Config"]["Labels"]
            name = f"{stack.name}-{labels['prefect-platform.service']}"
            known = facts.get(name, {})
            same = known.get("digest") == labels.get(DIGEST)
            found[name] = Running(
                _state(each), each["State"]["Pid"], known.get("facts") if same else None, ""
            )
        return found

    @property
    def store(self) -> SecretStore:
        return self.vault.store()

    # -- before anything is touched
    def preflight(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Raises PreflightError: host unreachable, no Docker, disk nearly full, a needed stack not there."""
        facts = self.host.facts()
        if plan.steps and facts.free < _FREE_BYTES:
            raise PreflightError(
                f"{self.host.runner.place}: {facts.free // 2**20} MiB free under {self.host.root}, {_FREE_BYTES // 2**20} MiB needed",
                "free disk space there (docker system df shows what images take), then run the command again",
            )

    # -- applying
    def apply(self, plan: Plan, bundles: Sequence[Bundle]) -> None:
        """Do the steps. Interrupted anywhere, the next observe sees what is left to do."""
        if not plan.steps:
            return
        for bundle in bundles:
            self._apply(bundle, plan)

    def complete(self, bundles: Sequence[Bundle]) -> tuple[str, ...]:
        """What a stack needs beyond running containers; returns what was changed."""
        return self.vault.set_up() if any(bundle.stack.name == "vault" for bundle in bundles) else ()

    def _apply(self, bundle: Bundle, plan: Plan) -> None:
        stack = bundle.stack
        folder = self.placed(stack).folder
        self._ensure_networks(bundle)
        self._ensure_volumes(bundle)
        if stack.secrets:
            self.vault.admit(stack, folder, _user_of(bundle))
            self.store.ensure(stack)
        if stack.databases:
            _databases.ensure(self.host, self.where("postgres").container("postgres"), stack, self.store)
        release = self._lay(bundle)
        self._pull(bundle)
        before, routes = self._current(stack), self._routes_of(stack)
        try:
            # Requests to what is not there yet are held; and Traefik's own health is one of its routes.
            self._serve_routes(stack, bundle.routes)
            self._up(bundle, f"{folder}/releases/{release}", plan)
        except PlatformError as error:
            self._record("setup", stack, release, "failed", error.reason.splitlines()[0])
            self._serve_routes(stack, next(iter(routes.values()), None))
            self._roll_back(stack, before, error)
        self.host.switch(folder, release)
        self._record("setup", stack, release, "good", "; ".join(sorted(plan.of("start", "restart"))))
        self._prune(folder)

    def _lay(self, bundle: Bundle) -> str:
        """Write the release; returns its id. Its files stand under names of their contents, so writing them again is no change."""
        folder = self.placed(bundle.stack).folder
        facts = {
            service.full_name: {"digest": service.digest(), "facts": service.facts()}
            for service in bundle.services
        }
        own = {path: body for path, body in bundle.files.items() if not path.startswith("files/")}
        if bundle.routes is not None:
            own["routes.yml"] = bundle.routes
        own["services.json"] = json.dumps(facts, indent=1, sort_keys=True).encode()
        digest = hashlib.sha256(
            b"".join(path.encode() + b"\0" + body for path, body in sorted(own.items()))
        ).hexdigest()[:8]
        release = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{digest}"
        stored = {path: body for path, body in bundle.files.items() if path.startswith("files/")}
        # What a release shows of its files, the release has too: links into the store would not survive a copy.
        self.host.lay(
            folder,
            {**stored, **{f"releases/{release}/{path}": body for path, body in {**own, **stored}.items()}},
        )
        return release

    def _pull(self, bundle: Bundle) -> None:
        images = sorted({str(service.spec["image"]) for service in bundle.services})
        for image in images:
            if self.host.docker("image", "inspect", image, check=False).code:
                self.say(f"pulling {image}")
                self.host.docker("pull", "-q", image, seconds=1800)

    def _compose(
        self, project: str, folder: str, *words: str, seconds: float = 600, check: bool = True
    ) -> str:
        done = self.host.docker(
            "compose", "-p", project, "-f", f"{folder}/compose.yml", *words, seconds=seconds, check=check
        )
        return done.text + done.stderr

    def _up(self, bundle: Bundle, folder: str, plan: Plan) -> None:
        project = _compose_file.project(self.placed(bundle.stack).scope, bundle.stack.name)
        changed = {*plan.of("start", "restart")}
        names = [service.name for service in bundle.services]
        for name in _compose_file.once(bundle):
            if f"{bundle.stack.name}-{name}" in changed:
                self._dump(bundle.stack)
                self.say(f"running {bundle.stack.name}-{name}")
                if _compose_file.AGENT in names:
                    self._compose(
                        project, folder, "up", "-d", "--wait", "--wait-timeout", "120", _compose_file.AGENT
                    )
                self._compose(
                    project,
                    folder,
                    "up",
                    "--no-deps",
                    "--exit-code-from",
                    name,
                    "--abort-on-container-exit",
                    name,
                )
        self.say(f"starting {bundle.stack.name}: {', '.join(sorted(changed)) or 'nothing new'}")
        wait = ("--wait", "--wait-timeout", str(_UP_SECONDS)) if _compose_file.waits(bundle) else ()
        try:
            self._compose(project, folder, "up", "-d", "--remove-orphans", *wait, seconds=_UP_SECONDS + 120)
        except PlatformError as error:
            cause = _health.cause(self.host, self.placed(bundle.stack).scope, bundle.stack.name)
            raise ApplyError(
                f"{bundle.stack.name}: did not become healthy: {cause or error.reason[-600:]}",
                f"./invoke {bundle.stack.name}.logs",
            ) from None

    def _dump(self, stack: Stack) -> None:
        """A dump of the stack's databases before something that may change their schema; none for a first release."""
        before = self._current(stack)
        if not before:
            return
        where = self.where("postgres")
        folder, script = (
            f"{self.host.root}/{self.settings.env}/postgres/dumps",
            (
                'umask 077; mkdir -p "$1" && docker exec "$2" pg_dump -Fc -U postgres "$3" >"$1/.part" && mv "$1/.part" "$1/$4"'
            ),
        )
        for database in stack.databases:
            self.say(f"dumping database {database.name}")
            file = f"{database.name}-{before}.dump"
            self.host.sh(script, folder, where.container("postgres"), database.name, file, seconds=3600)

    def _serve_routes(self, stack: Stack, routes: bytes | None) -> None:
        folder, name = f"{self.host.root}/host/routes", self._routes_name(stack)
        if routes is None:
            self.host.sh('rm -f "$1/$2"', folder, name)
            return
        # Traefik loads what ends in .yml: the new file appears under its name in one step.
        script = 'mkdir -p "$1" && cat >"$1/.$2.tmp" && chmod 644 "$1/.$2.tmp" && mv "$1/.$2.tmp" "$1/$2"'
        self.host.sh(script, folder, name, stdin=routes)

    def _roll_back(self, stack: Stack, before: str, error: PlatformError) -> None:
        if before:
            folder = self.placed(stack).folder
            self.say(f"rolling {stack.name} back to {before}")
            project = _compose_file.project(self.placed(stack).scope, stack.name)
            self._compose(
                project,
                f"{folder}/releases/{before}",
                "up",
                "-d",
                "--remove-orphans",
                "--wait",
                "--wait-timeout",
                "120",
                check=False,
            )
            raise ApplyError(f"{error.reason}\nrolled back to release {before}", error.hint) from None
        raise error

    def _ensure_networks(self, bundle: Bundle) -> None:
        names = {name for service in bundle.services for name in service.spec.get("networks", ())}
        env = self.placed(bundle.stack).scope
        for name in sorted(names):
            if self.host.docker("network", "inspect", name, check=False).code:
                closed = ["--internal"] if "-data" in name or name == "platform-vault" else []
                edge = ["--label", "prefect-platform.edge=yes"] if "-edge" in name else []
                self.host.docker(
                    "network", "create", *closed, *edge, "--label", f"prefect-platform.env={env}", name
                )

    def _ensure_volumes(self, bundle: Bundle) -> None:
        """Made and given to their user once: a fresh volume belongs to root, whom no service runs as."""
        where = self.where(bundle.stack.name, bundle.stack.scope)
        image = str(next(iter(bundle.services)).spec["image"])
        env = self.placed(bundle.stack).scope
        for volume in _compose_file.volumes(bundle, where):
            marker = f"{self.placed(bundle.stack).folder}/volumes/{volume.name}"
            if self.host.sh('[ -e "$1" ]', marker, check=False).code == 0:
                continue
            self._pull(bundle)
            self.host.docker("volume", "create", "--label", f"prefect-platform.env={env}", volume.name)
            words = [
                "run",
                "--rm",
                "--network",
                "none",
                "--cap-drop",
                "ALL",
                "--cap-add",
                "CHOWN",
                "-u",
                "0:0",
                "--entrypoint",
                "chown",
            ]
            self.host.docker(*words, "-v", f"{volume.name}:/volume", image, volume.owner, "/volume")
            self.host.sh('mkdir -p "$(dirname "$1")" && : >"$1"', marker)

    def _current(self, stack: Stack) -> str:
        return (
            self.host.sh('readlink "$1/current" 2>/dev/null || true', self.placed(stack).folder)
            .text.strip()
            .removeprefix("releases/")
        )

    def _record(self, what: str, stack: Stack, release: str, result: str, detail: str) -> None:
        folder = f"{self.host.root}/{self.placed(stack).scope}"
        _releases.record(self.host, folder, _releases.entry(f"{stack.name}.{what}", release, result, detail))

    def _prune(self, folder: str) -> None:
        script = 'cd "$1/releases" && ls -1 | sort -r | tail -n +$(($2 + 1)) | grep -vxF "$(basename "$(readlink ../current)")" | xargs -r rm -rf --'
        self.host.sh(script, folder, str(_KEPT_RELEASES), check=False)

    # -- using
    def _containers(self) -> list[dict[str, Any]]:
        """Of the environment and of what the host shares."""
        return [*self.host.containers(env=self.settings.env), *self.host.containers(env="host")]

    def processes(self) -> list[Process]:
        """One per container; memory is what the kernel counts for it."""
        used = _health.memory(self.host)
        found = sorted(self._containers(), key=lambda each: str(each["Name"]))
        return [_health.process(each, used.get(each["Name"].lstrip("/"), 0)) for each in found]

    def run_in(self, stack: str, argv: Sequence[str]) -> str:
        """Run a command in the container of a stack that has secrets, with them; returns stdout."""
        name = next(
            (each["Name"].lstrip("/") for each in self._containers() if _has_secrets(each, stack)), None
        )
        if name is None:
            raise PlatformError(
                f"{stack}: not set up in environment {self.settings.env!r}",
                f"./invoke {stack}.setup --env {self.settings.env}",
            )
        words = ["exec", "-e", "SECRETS_WATCH=", name, "/bin/sh", _compose_file.ENTRYPOINT, "python", *argv]
        done = self.host.docker(*words, check=False)
        if done.code:
            raise PlatformError((done.stderr or done.text).strip() or f"{argv[0]} ended with {done.code}")
        return done.text

    def tail(self, service: str, lines: int) -> list[str]:
        container = self._container(service)
        done = self.host.docker("logs", "--tail", str(lines), container, check=False)
        return [*done.text.splitlines(), *done.stderr.splitlines()][-lines:]

    def follow(self, services: Sequence[str]) -> Iterator[tuple[str, str]]:
        """What is written from now on; one reader for each container."""
        lines: queue.Queue[tuple[str, str]] = queue.Queue()
        for service in services:
            process = self.host.runner.start(
                self.host.docker_words("logs", "--tail", "0", "--follow", self._container(service)), True
            )
            threading.Thread(target=_read, args=(service, process, lines), daemon=True).start()
        while True:
            yield lines.get()

    def _container(self, service: str) -> str:
        for each in self._containers():
            labels = each["Config"]["Labels"]
            if service == f"{labels['prefect-platform.stack']}-{labels['prefect-platform.service']}":
                return str(each["Name"].lstrip("/"))
        raise ConfigError(f"{service}: no such container; there are: {', '.join(self.known()) or 'none'}")

    def stop(self, services: Sequence[str]) -> None:
        """Stop these services, workers first; with none named, all of the environment. What the host shares goes on."""
        mine = self.host.containers(env=self.settings.env)
        names = [_service(each) for each in mine if not services or _service(each) in services]
        for name in sorted(
            names, key=lambda name: ("worker" not in name, "vault-agent" in name, "postgres" in name)
        ):
            self.say(f"stopping {name}")
            self.host.docker("stop", self._container(name), seconds=1000)

    def restart(self, services: Sequence[str]) -> None:
        for name in sorted(services, key=lambda name: "worker" not in name):
            self.say(f"restarting {name}")
            self.host.docker("restart", self._container(name), seconds=1000)

    def known(self) -> list[str]:
        return sorted(_service(each) for each in self._containers())

    def established(self) -> list[str]:
        """Stacks that are set up here: they have a current release."""
        script = 'for f in "$1/$2"/*/current "$1/host"/*/current; do [ -e "$f" ] && basename "$(dirname "$f")"; done; true'
        return sorted(set(self.host.sh(script, self.host.root, self.settings.env).text.split()))

    def room(self) -> int:
        return self.host.facts().free

    # -- releases
    def history(self) -> list[Entry]:
        """Of the environment and of what the host shares, oldest first."""
        folders = (f"{self.host.root}/{self.settings.env}", f"{self.host.root}/host")
        lines = [line for folder in folders for line in _releases.history(self.host, folder)]
        return sorted(lines, key=lambda line: line.time)

    def releases(self, stack: Stack) -> list[tuple[str, bool, Entry | None]]:
        """(release, whether it is the current one, what the history says of it), newest first."""
        told = {line.release: line for line in self.history() if line.what.startswith(f"{stack.name}.")}
        current = self._current(stack)
        there = _releases.present(self.host, self.placed(stack).folder)
        return [(each, each == current, told.get(each)) for each in reversed(there)]

    def roll_back(self, stack: Stack, wanted: str) -> str:
        """Run an earlier release again; returns its id. Raises ConfigError, ApplyError."""
        folder, current = self.placed(stack).folder, self._current(stack)
        there = _releases.present(self.host, folder)
        release = _releases.previous_good(self.history(), stack.name, there, current, wanted)
        self._refuse_another_schema(stack, current, release)
        project = _compose_file.project(self.placed(stack).scope, stack.name)
        self.say(f"rolling {stack.name} back from {current} to {release}")
        words = ("up", "-d", "--remove-orphans", "--wait", "--wait-timeout", str(_UP_SECONDS))
        self._serve_routes(stack, self.host.read_folder(f"{folder}/releases/{release}").get("routes.yml"))
        self._compose(project, f"{folder}/releases/{release}", *words, seconds=_UP_SECONDS + 120)
        self.host.switch(folder, release)
        self._record("rollback", stack, release, _releases.GOOD, f"from {current}")
        return release

    def _refuse_another_schema(self, stack: Stack, current: str, release: str) -> None:
        """A database that a newer version has migrated is none that an older one understands."""
        script = 'sed -n "/^  migrate:/,/^  [a-z]/s/^    image: //p" "$1/releases/$2/compose.yml"'
        folder = self.placed(stack).folder
        now, then = (
            self.host.sh(script, folder, each, check=False).text.strip() for each in (current, release)
        )
        if now != then:
            raise ConfigError(
                f"{stack.name}: release {release} runs {then}, the current one {now}: the database's schema may have changed since",
                "restore the dump that was made before the upgrade (docs/vps.md, Rollback), then set the older image and run setup",
            )

    def execute(self, service: str, words: Sequence[str]) -> int:
        """A command in a container, with the operator's terminal; returns its exit code."""
        tty = ["-it"] if os.isatty(0) and os.isatty(1) else ["-i"]
        return self.host.runner.stream(self.host.docker_words("exec", *tty, self._container(service), *words))

    def set_database_aside(self) -> list[Path]:
        raise ConfigError(
            "the database of this environment is PostgreSQL", "docs/vps.md says how to restore it"
        )

    def remove(self, data: bool) -> None:
        """Stop and delete this environment's containers, networks and files; with `data` volumes too. What the host shares stays."""
        env = self.settings.env
        for each in self.host.containers(env=env):
            self.host.docker("rm", "-f", each["Name"].lstrip("/"))
        script = 'rm -rf "$1/$2"; rm -f "$1/host/routes/$2"-*.yml'
        volumes = self.host.docker(
            "volume", "ls", "-q", "--filter", f"label=prefect-platform.env={env}"
        ).text.split()
        if data and volumes:
            self.host.docker("volume", "rm", "-f", *volumes)
        if data:
            self.host.sh(script, self.host.root, env)
        else:
            self.host.sh('rm -f "$1/$2"/*/current "$1/host/routes/$2"-*.yml', self.host.root, env)


def recover_vault(target: object, keys: Sequence[str]) -> None:
    """See Access.recover. Raises ConfigError for an environment without a Vault."""
    if not isinstance(target, Target):
        raise ConfigError(
            "this environment's target keeps its secrets in a file: there is no Vault to recover"
        )
    target.vault.recover(keys)


def prepare(settings: Settings) -> str:
    """Make a bare host fit for this target; returns what was done. Raises ConfigError for another target."""
    if settings.target != Target.name:
        raise ConfigError(
            f"environment {settings.env!r} has target {settings.target}: there is no host to prepare"
        )
    runner, script = (
        _runner(settings),
        (Path(__file__).parent / "templates" / "compose" / "prepare.sh").read_bytes(),
    )
    rise = [] if runner.run(["id", "-u"]).text.strip() == "0" else ["sudo", "-n"]
    return runner.run([*rise, "sh", "-s", "--", settings.values["root"]], script, seconds=1800).text


def _runner(settings: Settings) -> Runner:
    host = settings.values["host"]
    if not host:
        raise ConfigError(
            "platform.host: target compose needs the host's ssh destination",
            f"set platform.environments.{settings.env}.host",
        )
    if host == "localhost":
        return LocalRunner()
    config = settings.values["ssh_config"]
    return SshRunner(host, (settings.root / config).resolve() if config else None)


def _read(service: str, process: subprocess.Popen[bytes], lines: queue.Queue[tuple[str, str]]) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.put((service, line.decode(errors="replace").rstrip("\n")))


def _state(container: Mapping[str, Any]) -> str:
    """In supervisord's words, which the plan speaks. What was to run once and did so well is done."""
    status = container["State"]["Status"]
    if (
        status == "exited"
        and container["State"]["ExitCode"] == 0
        and "prefect-platform.once" in container["Config"]["Labels"]
    ):
        return "DONE"
    return _STATES.get(status, "EXITED")


def _service(container: Mapping[str, Any]) -> str:
    labels = container["Config"]["Labels"]
    return f"{labels['prefect-platform.stack']}-{labels['prefect-platform.service']}"


def _has_secrets(container: Mapping[str, Any], stack: str) -> bool:
    config = container["Config"]
    wanted = (
        config["Labels"].get("prefect-platform.stack") == stack and container["State"]["Status"] == "running"
    )
    return wanted and any(re.match(r"SECRETS_FILE=", each) for each in config["Env"] or ())


def _user_of(bundle: Bundle) -> str:
    """The uid:gid that a stack's secrets belong to."""
    return next(
        str(service.spec["user"]) for service in bundle.services if service.name == _compose_file.AGENT
    )
