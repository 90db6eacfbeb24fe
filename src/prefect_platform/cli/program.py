"""What `./invoke` runs: Invoke's program with this repository's tasks, a readable overview, and errors a person can act on.

Exit codes: those of `errors`; 2 also for a wrong command line; 130 for Ctrl-C. Any other exception is a bug and stays a traceback.
"""

# ruff: noqa: E402  # what Ctrl-C does is settled before the imports, they take most of the start
from __future__ import annotations

import signal

_LISTENS = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if __name__ == "__main__" and _LISTENS:
    # Ctrl-C during the imports below ends us without a traceback. Not when it is ignored, as for a background job.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import select
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError, UnexpectedExit
from invoke.loader import FilesystemLoader
from invoke.parser.argument import Argument
from invoke.program import Program
from invoke.util import helpline

from prefect_platform import __version__
from prefect_platform.errors import ConfigError, PlatformError

from .config import PlatformConfig
from .hints import addressed

ROOT = Path(__file__).resolve().parents[3]
FIRST_STEPS = ("prefect.setup", "gateway.login-url", "prefect.status", "test")
INTERRUPTED = 130


class RepositoryLoader(FilesystemLoader):
    """Loads tasks/ without putting that folder on the import path, where tasks/prefect.py would pass for the package prefect."""

    def load(self, name: str | None = None) -> tuple[ModuleType, str]:
        folder = Path(self.start) / (name or self.config.tasks.collection_name)
        if not (folder / "__init__.py").is_file():
            return super().load(name)
        spec = util.spec_from_file_location(
            folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None  # noqa: PT018  # the file exists and ends in .py
        module = util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module, str(folder.parent)


class PlatformProgram(Program):
    """Invoke's program, found from anywhere, with its errors in our words."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        super().__init__(
            name="./invoke",
            binary="./invoke",
            binary_names=["./invoke"],
            version=__version__,
            loader_class=RepositoryLoader,
            config_class=PlatformConfig,
        )

    def task_args(self) -> list[Argument]:
        arguments: list[Argument] = super().task_args()
        for argument in arguments:
            if argument.name == "search-root":
                argument.default = str(self.root)
                argument.value = str(self.root)
        return arguments

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:
        code = self._guarded(argv)
        if exit:
            sys.exit(code)

    def _guarded(self, argv: list[str] | None) -> int:
        try:
            code = self._steps(argv)
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("interrupted; the same command again goes on from here", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            if not _stdout_is_closed():
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return code

    def _steps(self, argv: list[str] | None) -> int:
        try:
            self.create_config()
            self._parse(argv)
            self.update_config()
            self.execute()
        except UnexpectedExit as error:
            if error.result.hide:
                print(error, file=sys.stderr, end="")
            return int(error.result.exited)
        except PlatformError as error:
            print(addressed(error.message), file=sys.stderr)
            return error.exit_code
        except Exit as error:
            if error.message:
                print(addressed(error.message), file=sys.stderr)
            return error.code
        return 0

    def _parse(self, argv: list[str] | None) -> None:
        try:
            self.parse_core(argv)
            # Invoke would compile the tasks anew on every call.
            sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
            self.parse_collection()
            try:
                self.parse_tasks()
            except ValueError as error:  # Invoke lets a flag's int("abc") through
                raise ConfigError(
                    f"./invoke: a value has the wrong type: {error}", "./invoke --help TASK"
                ) from error
            self.parse_cleanup()
        except ParseError as error:
            from .mistakes import explain

            known = self.collection.task_names if hasattr(self, "collection") else {}
            raise explain(error, sorted(known)) from error

    def parse_cleanup(self) -> None:
        wanted = self.args.list.value
        if isinstance(wanted, str):
            try:
                self.collection.subcollection_from_path(wanted)
            except KeyError:
                names = ", ".join(sorted(self.collection.collections))
                raise ConfigError(
                    f"./invoke --list: there is no namespace {wanted!r}", f"there are {names}"
                ) from None
        super().parse_cleanup()

    def update_config(self, merge: bool = True) -> None:
        super().update_config(merge=merge)
        self.config.require_runtime_file()

    def no_tasks_given(self) -> None:
        self.print_overview()
        raise Exit

    def print_overview(self) -> None:
        """What there is, grouped by namespace, beginning with the way in."""
        import prefect_platform

        print(f"{(prefect_platform.__doc__ or '').strip().rstrip('.')} ({__version__})\n")
        self._print_first_steps()
        pairs = _own_pairs(self.collection)
        for name, namespace in sorted(self.collection.collections.items()):
            print(f"{name}: {helpline(namespace)}" if helpline(namespace) else name)
            self.print_columns([(f"{name}.{task}", text) for task, text in _own_pairs(namespace)])
        if pairs:
            print("for developers")
            self.print_columns(pairs)
        print(
            "./invoke --help TASK explains one task, ./invoke --list names all, ./invoke --help tells the other options."
        )

    def _print_first_steps(self) -> None:
        steps = [
            (f"./invoke {name}", _help(self.collection, name))
            for name in FIRST_STEPS
            if _has(self.collection, name)
        ]
        if steps:
            print("First steps")
            self.print_columns(steps)


def _own_pairs(collection: Collection) -> list[tuple[str, str | None]]:
    return [(collection.transform(name), helpline(task)) for name, task in sorted(collection.tasks.items())]


def _has(collection: Collection, name: str) -> bool:
    return name in collection.task_names


def _help(collection: Collection, name: str) -> str | None:
    return helpline(collection[name])


def _stdout_is_closed() -> bool:
    """True if nobody reads our standard output any more, as after `| head`; a task's own broken socket is another matter."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def main() -> None:
    if _LISTENS:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    PlatformProgram().run()


if __name__ == "__main__":
    main()
