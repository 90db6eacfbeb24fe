"""The direction of imports, and the size of what a reader has to hold in mind at once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from prefect_platform.config.traits import Traits
from prefect_platform.errors import ConfigError
from prefect_platform.targets import protocol

from .conftest import ROOT

LAYERS = (
    ("tasks",),
    ("operations",),
    ("checks",),
    ("environment",),
    ("targets", "provisioning"),
    ("secretstore", "planning"),
    ("config",),
    ("http_client", "venvs", "files"),
    ("errors",),
)
"""A layer imports from those after it and from itself; `cli` is the program around all, `gateway` runs alone."""
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MAY = {"cli": {"cli", "errors", "config"}, "gateway": {"gateway"}}
BESIDE = {"tasks": {"cli"}}
"""Tasks use the hints of the command line."""
PACKAGE = "prefect_platform"


def _imports(text: str, module: str) -> Iterator[tuple[int, str]]:
    """(line, module that is imported), absolute; by statement or by name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _BY_NAME and node.args:
            yield from ((node.lineno, name) for name in _by_name(node.args[0], module))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


_BY_NAME = ("import_module", "__import__")


def _by_name(argument: ast.expr, module: str) -> Iterator[str]:
    """The module that a text names, or what a text with gaps begins with."""
    first = argument.values[0] if isinstance(argument, ast.JoinedStr) and argument.values else argument
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        name = first.value.lstrip(".")
        level = len(first.value) - len(name)
        yield ".".join([*(module.split(".")[:-level] if level else []), name]).strip(".")


def _part(module: str) -> str:
    """The folder or top module of the package that a module belongs to; `tasks` for the tasks; empty for what is not ours."""
    first, *rest = module.split(".")
    if first == "tasks":
        return "tasks"
    return rest[0] if first == PACKAGE and rest and rest[0] != "__version__" else ""


def wrong_imports(text: str, module: str) -> list[str]:
    mine, found = _part(module), []
    for line, name in _imports(text, module):
        other = _part(name)
        if name.split(".")[0] == "prefect_platform_lab" and mine not in ("tasks", ""):
            found.append(f"{module}:{line} imports {name}: the lab is beside the package, not part of it")
        if not other or other == mine or not mine:
            continue
        if other not in {*RANK, *MAY}:
            found.append(f"{module}:{line} imports {name}: {other} is in no layer")
        elif mine in MAY:
            allowed = other in MAY[mine]
            found += [] if allowed else [f"{module}:{line} imports {name}"]
        elif other not in BESIDE.get(mine, ()) and RANK.get(other, -1) <= RANK[mine]:
            found.append(f"{module}:{line} imports {name}: {mine} must not know {other}")
    return found


MACHINE = f"{PACKAGE}.targets.fly.machine."
"""Programs of the Fly machine import each other as scripts do."""


def _modules(root: Path = ROOT) -> list[tuple[Path, str]]:
    found = []
    for base, folder in ((root / "src", root / "src" / PACKAGE), (root, root / "tasks")):
        for path in sorted(folder.rglob("*.py")):
            module = ".".join(path.relative_to(base).with_suffix("").parts)
            if not module.startswith(MACHINE):
                found.append((path, module))
    return found


def test_only_the_programs_of_the_fly_machine_are_left_out(tmp_path: Path) -> None:
    names = ["targets/fly/machine/sleep.py", "targets/compose/machine/a.py", "machine/b.py"]
    for name in names:
        file = tmp_path / "src" / PACKAGE / name
        file.parent.mkdir(parents=True)
        file.touch()
    seen = {str(path.relative_to(tmp_path / "src" / PACKAGE)) for path, _ in _modules(tmp_path)}
    assert seen == set(names[1:])


def test_imports_go_one_way() -> None:
    assert [line for path, module in _modules() for line in wrong_imports(path.read_text(), module)] == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("prefect_platform.config.settings", "from prefect_platform.targets import open_target"),
        ("prefect_platform.planning.diff", "from prefect_platform import operations"),
        ("prefect_platform.targets.fly.target", "from ...environment.access import api"),
        ("prefect_platform.secretstore.store", "def f():\n    from prefect_platform.planning import diff"),
        ("prefect_platform.gateway.app", "from prefect_platform.errors import PlatformError"),
        ("prefect_platform.checks.run", "import prefect_platform_lab"),
        ("prefect_platform.targets.local.target", "from prefect_platform.targets.compose import names"),
        ("prefect_platform.targets.local.target", "from prefect_platform.targets import compose"),
        ("prefect_platform.targets.local.target", "from prefect_platform import targets"),
        ("prefect_platform.targets.local.target", "from .. import compose"),
        ("prefect_platform.targets.local.target", "from ..compose import names"),
        ("prefect_platform.targets.local.target", "import prefect_platform.targets.compose"),
        ("prefect_platform.targets.local.target", "import prefect_platform.targets.compose.names as n"),
        ("prefect_platform.targets.local.__init__", "from .. import compose"),
        ("prefect_platform.targets.local.deeper.target", "from ... import compose"),
        ("prefect_platform.targets.local.target", "import_module('..compose', __package__)"),
        ("prefect_platform.targets.docker.host", "from prefect_platform.targets import compose"),
        ("prefect_platform.targets.open", "from .compose import names"),
        ("prefect_platform.targets.open", "from . import compose"),
        ("prefect_platform.targets.__init__", "from .compose import names"),
        ("prefect_platform.config.settings", "import_module('prefect_platform.operations.deploy')"),
        ("prefect_platform.config.settings", "importlib.import_module('prefect_platform.operations.deploy')"),
        ("prefect_platform.config.settings", "__import__('prefect_platform.operations.deploy')"),
        ("prefect_platform.config.settings", "import_module(f'prefect_platform.targets.{name}')"),
        ("prefect_platform.config.settings", "import_module('..operations.deploy', __package__)"),
    ],
)
def test_an_import_against_the_direction_is_found(module: str, text: str) -> None:
    assert wrong_imports(text, module) or _sideways(text, module)


SHARED = {"docker", "combined", "protocol"}


TARGETS = {path.parent.name for path in (ROOT / "src" / PACKAGE / "targets").glob("*/__init__.py")}


def _sideways(text: str, module: str) -> list[str]:
    """Imports from one target's folder into another's: what they share stands in `docker` or `combined`. What is beside the folders
    opens a target by its name alone.
    """
    parts = module.split(".")
    if parts[1:2] != ["targets"]:
        return []
    mine = parts[2] if len(parts) > 3 else ""
    allowed = {"protocol"} if mine in ("", *SHARED) else {*SHARED}
    found = []
    for line, name in _imports(text, module):
        if mine and name == f"{PACKAGE}.targets":
            found.append(f"{module}:{line} imports all targets")
        _, _, inside = name.partition(f"{PACKAGE}.targets.")
        other = inside.split(".")[0]
        if other in TARGETS and other not in {*allowed, mine}:
            found.append(f"{module}:{line} imports from {other}")
    return found


def test_no_target_knows_another() -> None:
    assert [line for path, module in _modules() for line in _sideways(path.read_text(), module)] == []


def circles(modules: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Module by module, imports inside functions left out: those are made for speed, not to break a circle. module → its text."""
    graph: dict[str, set[str]] = {}
    names = {module.removesuffix(".__init__") for module in modules}
    for module, text in modules.items():
        top = "\n".join(ast.unparse(node) for node in _at_import(ast.parse(text).body))
        targets = {name for _, name in _imports(top, module)}
        reached = {each if each in names else each.rpartition(".")[0] for each in targets}
        graph[module.removesuffix(".__init__")] = (reached & names) - {module.removesuffix(".__init__")}

    def circle(name: str, path: tuple[str, ...], done: set[str]) -> tuple[str, ...]:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in done:
            return ()
        for each in sorted(graph[name]):
            if found := circle(each, (*path, name), done):
                return found
        done.add(name)
        return ()

    done: set[str] = set()
    return [found for name in sorted(graph) if (found := circle(name, (), done))]


def _at_import(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when the module is imported, however deep; none of a function, nor of what only a type checker reads."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _at_import(ast.iter_child_nodes(node))


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circles({module: path.read_text() for path, module in _modules()}) == []


@pytest.mark.parametrize(
    "text",
    [
        "from . import c2",
        "try:\n    from . import c2\nexcept ImportError:\n    pass",
        "try:\n    pass\nexcept ImportError:\n    from . import c2",
        "if sys.version_info > (3, 12):\n    from .c2 import name",
        "with quiet():\n    import p.c2",
        "class C:\n    from .c2 import name",
    ],
)
def test_a_circle_is_found(text: str) -> None:
    assert circles({"p.c1": text, "p.c2": "from .c1 import a"})


@pytest.mark.parametrize(
    "text",
    ["def f():\n    from . import c2", "if TYPE_CHECKING:\n    from .c2 import name", "from . import c3"],
)
def test_what_runs_later_or_never_is_no_circle(text: str) -> None:
    assert not circles({"p.c1": text, "p.c2": "from .c1 import a", "p.c3": ""})


STACKS = {path.parent.name for path in (ROOT / "stacks").glob("*/stack.yml")}
NOT_STACKS = {
    # The agent beside every stack, and its folders in the containers: Vault the program, not the stack that runs a server of it.
    ("compose/compose_file.py", "vault-agent"),
    ("docker/agent.py", "/vault/approle"),
    ("docker/agent.py", "/vault/secrets"),
    # PostgreSQL's superuser.
    ("docker/databases.py", "postgres"),
    # Traefik the program: its command, and its configuration's folder in the container.
    ("compose/names.py", "traefik"),
    ("compose/names.py", "/etc/traefik/dynamic"),
    ("fly/render.py", "/usr/local/bin/traefik"),
    ("local/installation.py", "traefik"),
    ("local/routes.py", "traefik.yml"),
    # The runtime's copy of an empty database, and the images that Fly's is made of.
    ("local/installation.py", "prefect-template.db"),
    ("fly/render.py", "/platform/prefect-template.db"),
    ("fly/render.py", "prefect_image"),
    ("fly/render.py", "traefik_image"),
    # The journal of Vault's set-up.
    ("docker/vault_access.py", "vault-keys.json"),
    # Sections of the settings that a preview overrides.
    ("fly/preview.py", "gateway"),
    ("fly/preview.py", "prefect"),
    ("fly/preview.py", "vault"),
}
"""Strings in targets/ that look like a stack's name and mean something else."""


def stack_names(text: str) -> Iterator[tuple[int, str]]:
    """(line, string) of code that could decide by a stack's or service's name, or build with one: the name, that of a container or a
    service, an item of a path. Not the settings' sections (`values["gateway"]`), and no sentence.
    """
    tree = ast.parse(text)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    silent |= {
        id(node.slice)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "values"
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in silent:
            continue
        if isinstance(node.value, str) and _names_a_stack(node.value):
            yield node.lineno, node.value


def _names_a_stack(text: str) -> bool:
    if re.search(r"\s", text) or text.startswith(PACKAGE.replace("_", "-")):
        return False
    return any(
        re.fullmatch(rf"(platform[-_])?{name}([-_.:@].*)?", each)
        for name in STACKS
        for each in text.split("/")
    )


def _named(folder: str) -> set[tuple[str, str]]:
    """Programs of the Fly machine are left out: its image is made of Prefect and the gateway, and they prepare it."""
    found = set()
    for path, module in _modules():
        if module.startswith(f"{PACKAGE}.{folder}."):
            name = str(path.relative_to(ROOT / "src" / PACKAGE / folder))
            found |= {(name, text) for _, text in stack_names(path.read_text())}
    return found


def test_no_operation_knows_a_stack_by_its_name() -> None:
    """What a stack needs of its own is a provisioner's, or in its stack.yml."""
    assert _named("operations") == set()


def test_no_target_knows_a_stack_by_its_name() -> None:
    """It asks the stack's declaration (`Stack.role`, `Stack.sqlite`), or the settings' roles."""
    assert _named("targets") == NOT_STACKS


@pytest.mark.parametrize(
    "text",
    [
        "if stack.name == 'traefik': pass",
        "where.container('postgres')",
        "target.stop(['prefect-server'])",
        "folder = f'{root}/host/vault/claim'",
        "names['gateway']",
        "name = 'platform-vault'",
        "name.startswith('redis_')",
        "image = 'postgres:17'",
        "name.startswith('vault.')",
        "f'{folder}/redis_{env}'",
        "name = 'platform_vault'",
        "image = 'docker.io/library/redis@sha256:0'",
    ],
)
def test_a_stack_s_name_is_found(text: str) -> None:
    assert list(stack_names(text))


@pytest.mark.parametrize(
    "text",
    [
        "settings.values['gateway']['port']",
        '"""A docstring about prefect."""',
        "say('./invoke prefect.setup makes one')",
        "LABEL = 'prefect-platform'",
    ],
)
def test_a_section_or_a_sentence_is_no_stack_s_name(text: str) -> None:
    assert not list(stack_names(text))


def test_nothing_outside_knows_a_single_target() -> None:
    """What only one can do is a capability in targets/protocol.py."""
    assert {"local", "compose", "fly"} <= TARGETS
    found = [
        f"{module}:{line} imports {name}"
        for path, module in _modules()
        for line, name in _imports(path.read_text(), module)
        if not module.startswith(f"{PACKAGE}.targets.") and name.startswith(f"{PACKAGE}.targets.")
        if name.split(".")[2] in TARGETS
    ]
    assert found == []


def test_every_capability_says_what_a_target_without_it_lacks() -> None:
    """`require` raises an error of ours for each of them."""
    capabilities = {
        each
        for each in vars(protocol).values()
        if isinstance(each, type) and getattr(each, "_is_runtime_protocol", False)
    }
    assert len(capabilities) >= 8
    for capability in capabilities:
        with pytest.raises(ConfigError, match="target bare "):
            protocol.require(cast(Any, SimpleNamespace(traits=Traits("bare", "combined"))), capability)


def test_a_reader_finds_things() -> None:
    package = ROOT / "src" / PACKAGE
    folders = [path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"]
    files = [path.name for path in package.iterdir() if path.is_file()]
    assert len(folders) <= 12
    assert len(files) <= 6
    assert hidden(package / "targets") == []


def hidden(folder: Path) -> list[str]:
    """Modules and packages whose name begins with an underscore."""
    paths = [path.relative_to(folder) for path in folder.rglob("*.py")]
    return [
        str(path) for path in paths if any(part[0] == "_" for part in path.parts if part != "__init__.py")
    ]


@pytest.mark.parametrize("name", ["_hidden/__init__.py", "local/_hidden/target.py", "local/_names.py"])
def test_a_hidden_module_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert hidden(tmp_path) == [name]


def test_files_and_functions_are_small() -> None:
    long = []
    for path, module in _modules():
        text = path.read_text()
        if len(text.splitlines()) > 300:
            long.append(f"{module}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                lines = (node.end_lineno or 0) - first + 1
                # namespace() of tasks/_stack.py only holds the tasks that every stack has.
                if lines > 45 and (module, node.name) != ("tasks._stack", "namespace"):
                    long.append(f"{module}.{node.name}: {lines} lines")
    assert long == []
