"""What `./invoke` runs: Invoke's program with this repository's tasks, a readable overview, and errors a person can act on.

Exit codes: those of `errors`; 2 also for a wrong command line; 130 for Ctrl-C. Any other exception is a bug and stays a traceback.
"""

# ruff: noqa: E402  # what Ctrl-C does is settled before the imports, they take most of the start
from __future__ import annotations

import gc
import signal
import sys
from types import ModuleType

if __name__ == "__main__":
    # With the default of 700, collections during the imports find nothing and cost a sixth of our start.
    gc.set_threshold(100_000)
_LISTENS = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if __name__ == "__main__" and _LISTENS:
    # Ctrl-C during the imports below ends us without a traceback. Not when it is ignored, as for a background job.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
_MOCK = "unittest.mock"
if __name__ == "__main__":
    # Invoke's only need for it is MockContext, for tests of tasks; it imports asyncio, which takes a quarter of our start.
    sys.modules[_MOCK] = ModuleType(_MOCK)
    vars(sys.modules[_MOCK])["Mock"] = object

import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.exceptions import Exit, ParseError, UnexpectedExit
from invoke.loader import FilesystemLoader
from invoke.parser.argument import Argument
from invoke.program import Program

if __name__ == "__main__":
    del sys.modules[_MOCK]

from prefect_platform import __version__
from prefect_platform.errors import ConfigError, PlatformError

from . import interrupts, options, streams
from .aliases import without_aliases
from .config import PlatformConfig
from .hints import LOCAL, addressed

if TYPE_CHECKING:
    from .mistakes import Asked

ROOT = Path(__file__).resolve().parents[3]
LAYOUTS = ("flat", "nested", "json")
"""Invoke's, of --list-format."""


class RepositoryLoader(FilesystemLoader):
    """Loads tasks/ without putting that folder on the import path."""

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

    def core_args(self) -> list[Argument]:
        """An option without effect is unknown here: who gives --dry must not see a task run."""
        return [each for each in super().core_args() if each.name not in options.WITHOUT_EFFECT]

    def parse_core_args(self) -> None:
        super().parse_core_args()
        for each in super().core_args():
            if each.name in options.WITHOUT_EFFECT:
                self.args[each.name] = each  # Invoke's own code asks for its value

    def task_args(self) -> list[Argument]:
        arguments: list[Argument] = super().task_args()
        for argument in arguments:
            if argument.name == "search-root":
                argument.default = str(self.root)
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
            print("interrupted; run it again to resume", file=sys.stderr)
            return interrupts.INTERRUPTED
        except OSError as error:
            if not streams.discard_if_unwritable(error):
                raise
            print(f"./invoke: standard output: {error.strerror}", file=sys.stderr)
            return 1
        finally:
            interrupts.arrived()
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
            try:
                self.parse_core(argv)
            except ValueError as error:  # as below
                from .mistakes import wrong_value

                raise wrong_value(error, self.argv[1:], ()) from error
            # Invoke would recompile the tasks on every call.
            sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
            self.parse_collection()
            try:
                self.parse_tasks()
            except ValueError as error:  # Invoke lets a flag's int("abc") through
                from .mistakes import wrong_value

                raise wrong_value(error, self.core.unparsed, self.collection.task_names) from error
            self.parse_cleanup()
        except ParseError as error:
            from .mistakes import explain

            task = error.context.name if error.context is not None else None
            raise explain(error, self._asked(task)) from error

    def _asked(self, task: str | None) -> Asked:
        """What the words meant as far as it is known; before a task's name comes the first one that follows."""
        from .mistakes import Asked
        from .task_help import placed

        if not hasattr(self, "collection"):
            return Asked(task)
        names = sorted(self.collection.task_names)
        words = self.core.unparsed
        meant = task or next((word for word in words if word in names), None)
        found = self.collection[meant] if meant else None
        platform = self.config.get("platform")
        declared = platform.get("environments") if isinstance(platform, Mapping) else None
        return Asked(
            task,
            meant,
            names,
            [f"--{each.names[0]}" for each in found.get_arguments()] if found else (),
            placed(found) if found else {},
            bool(getattr(found, "words", False)),
            frozenset({LOCAL, *(declared if isinstance(declared, Mapping) else ())}),
        )

    def load_collection(self) -> None:
        try:
            super().load_collection()
        except Exit as error:
            raise ConfigError(
                f"./invoke: {error.message}", "leave out --collection and --search-root: ./invoke --list"
            ) from error

    def parse_tasks(self) -> None:
        """Invoke takes a `--help` after a task for the value of a flag or an argument that the task still lacks."""
        task = _help_task(self.core.unparsed, self.collection.task_names)
        if task:
            self.args.help.value = task
            self.core.unparsed.clear()
        if found := options.unknown(self.core.unparsed, self.collection, self.initial_context.flags):
            raise ParseError(f"No idea what {found[0]!r} is!", found[1])
        if found := options.twice(self.core.unparsed, self.collection):
            raise ConfigError(
                f"{found[1].name}: {found[0]} is given twice", f"./invoke --help {found[1].name}"
            )
        super().parse_tasks()

    def parse_cleanup(self) -> None:
        if self.args.complete.value:
            # The program's name as it was typed: ./invoke, invoke, ../invoke.
            self.core.remainder = f"{self.binary} {self.core.remainder.partition(' ')[2]}"
        layout = self.args["list-format"].value
        if layout not in LAYOUTS:
            raise ConfigError(
                f"./invoke --list-format: {layout!r} is none of {', '.join(LAYOUTS)}", "./invoke --help"
            )
        wanted = self.args.list.value
        if not wanted:
            self._refuse_options_of_list()
        if isinstance(wanted, str):
            try:
                self.collection.subcollection_from_path(wanted)
            except KeyError:
                names = ", ".join(sorted(self.collection.collections))
                raise ConfigError(
                    f"./invoke --list: no such namespace: {wanted!r}", f"namespaces: {names}"
                ) from None
        super().parse_cleanup()

    def _refuse_options_of_list(self) -> None:
        for name in ("list-depth", "list-format"):
            if self.args[name].got_value:
                raise ConfigError(f"./invoke --{name}: only with --list", "./invoke --help")

    def update_config(self, merge: bool = True) -> None:
        super().update_config(merge=merge)
        self.config.require_runtime_file()
        self.config.require_known_keys(self.collection.configuration() if hasattr(self, "collection") else ())
        self.config.require_executor()

    def no_tasks_given(self) -> None:
        self.print_overview()
        raise Exit

    def print_overview(self) -> None:
        from . import overview

        targets = overview.targets_of(self.config.get("platform") or {})
        print("\n".join(overview.lines(self.root, self.collection, targets)))

    def print_task_help(self, name: str) -> None:
        from . import task_help

        print("\n".join(task_help.lines(name, self.collection[name])))

    def list_tasks(self) -> None:
        self.scoped_collection = without_aliases(self.scoped_collection)
        super().list_tasks()


def _help_task(words: Sequence[str], known: Collection[str]) -> str:
    """The task of a `TASK … --help` among the words before `--`; empty without --help."""
    mine = list(itertools.takewhile(lambda word: word != "--", words))
    asked = [number for number, word in enumerate(mine) if word in ("--help", "-h")]
    return next((word for word in reversed(mine[: asked[0]]) if word in known), "") if asked else ""


def main() -> None:
    os.umask(os.umask(0o077) | 0o022)  # whatever the operator's: no other user may write what we make
    streams.prepare()
    if _LISTENS:
        interrupts.listen()
    PlatformProgram().run()


if __name__ == "__main__":
    main()
