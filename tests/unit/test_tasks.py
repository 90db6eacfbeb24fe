"""All tasks at once: their summaries, examples, flags, and what a slip of the pen suggests."""

from __future__ import annotations

import itertools
import re
import shlex
from collections import defaultdict

import pytest
import yaml
from invoke.util import helpline

import tasks
from prefect_platform.cli import mistakes, options, overview, task_help
from prefect_platform.cli.aliases import without_aliases
from prefect_platform.cli.program import PlatformProgram

from .conftest import ROOT

NAMES = sorted(tasks.namespace.task_names)
LISTED = sorted(without_aliases(tasks.namespace).task_names)
COLUMNS = 80


def test_every_summary_fits_its_line() -> None:
    """As `--list` prints it in 80 columns: two of indent, the longest name, three between."""
    room = COLUMNS - 2 - max(map(len, LISTED)) - 3 - 1
    summaries = {name: helpline(tasks.namespace[name]) or "" for name in LISTED}
    assert {name: text for name, text in summaries.items() if not 0 < len(text) <= room} == {}
    assert [name for name, text in summaries.items() if "Example" in text] == []


def test_aliases_work_and_are_not_listed() -> None:
    assert {name for name in NAMES if name.startswith("authentik.shared.")} == set(NAMES) - set(LISTED)
    for name in set(NAMES) - set(LISTED):
        shown = tasks.namespace[name.replace(".shared.", ".")]
        helps = [
            [argument.help for argument in each.get_arguments()] for each in (shown, tasks.namespace[name])
        ]
        assert helps[0] == helps[1]


def test_a_letter_stands_for_one_flag() -> None:
    meanings = defaultdict(set)
    for name in NAMES:
        for argument in tasks.namespace[name].get_arguments():
            for letter in argument.nicknames:
                meanings[letter].add(argument.name)
    assert {letter: names for letter, names in meanings.items() if len(names) > 1} == {}
    assert meanings["e"] == {"env"}
    assert "h" not in meanings, "-h after a task is its help"


def test_a_flag_that_has_a_letter_has_it_everywhere() -> None:
    lacking = [
        f"{name} --{argument.name}"
        for name in NAMES
        for argument in tasks.namespace[name].get_arguments()
        if argument.name == "env" and not argument.nicknames
    ]
    assert lacking == []


def _example(name: str) -> list[str]:
    """The words of a task's example, after its first line."""
    _, _, rest = (tasks.namespace[name].__doc__ or "").partition("\n")
    found = re.search(r"Example: ((?:.*\\\n)*.*)", rest)
    assert found, f"{name} has no example"
    return shlex.split(found[1].replace("\\\n", "").replace('eval "$(', "").replace('"$TOKEN")"', "TOKEN"))


@pytest.mark.parametrize("name", LISTED)
def test_an_example_calls_its_task_with_flags_that_it_has(name: str) -> None:
    words = _example(name)
    rest = words[words.index("./invoke") + 1 :]
    assert rest[0] == name
    given = rest[1 : rest.index("--")] if "--" in rest else rest[1:]
    flags = {f"--{argument.names[0]}" for argument in tasks.namespace[name].get_arguments()}
    assert {word.partition("=")[0] for word in given if word.startswith("--")} <= flags


@pytest.mark.parametrize("stack", sorted(path.parent.name for path in (ROOT / "stacks").glob("*/stack.yml")))
def test_an_example_names_what_its_stack_has(stack: str) -> None:
    folder = ROOT / "stacks" / stack
    golden = "".join(
        path.read_text()
        for path in (folder / "golden").rglob("*")
        if path.is_file() and "compose" in path.name
    )
    text = (folder / "compose.yml.j2").read_text() + golden
    words = [*_example(f"{stack}.logs"), *_example(f"{stack}.restart")]
    named = {word for flag, word in itertools.pairwise(words) if flag == "--service"}
    named.add(_example(f"{stack}.exec")[2])
    assert len(named) == 1
    assert re.search(rf"^  {named.pop()}[:{{]|process\('", text, re.MULTILINE)
    secrets = [each["name"] for each in yaml.safe_load((folder / "stack.yml").read_text()).get("secrets", [])]
    assert _example(f"{stack}.rotate-secret")[2] in [*secrets, "NAME"]


def test_a_slip_never_suggests_a_task_that_stops_or_removes() -> None:
    """Every name with a letter left out, two swapped, and its last word alone."""
    for name in LISTED:
        slips = {name.rpartition(".")[2]} - set(NAMES)
        slips |= {name[:at] + name[at + 1 :] for at in range(len(name))} - set(NAMES)
        for slip in slips:
            assert not mistakes.HARMFUL.match(mistakes.meant(slip, NAMES).rpartition(".")[2]), slip


def test_what_does_harm_is_known_as_such() -> None:
    """A task that asks for --yes, or whose summary begins with such a verb."""
    verbs = ("Stop", "Delete", "Remove", "Restart", "Restore", "Revoke", "Undo", "Cut", "Move", "Rename")
    harmful = {
        name
        for name in LISTED
        if (helpline(tasks.namespace[name]) or "").startswith(verbs)
        or any(argument.name == "yes" for argument in tasks.namespace[name].get_arguments())
    }
    assert {name for name in harmful if not mistakes.HARMFUL.match(name.rpartition(".")[2])} == set()


@pytest.mark.parametrize(
    ("raw", "seen", "unseen"),
    [
        (
            {},
            {"prefect", "gateway", "platform"},
            {"postgres", "redis", "vault", "authentik", "fly", "lab", "host"},
        ),
        ({"environments": {"p": {"target": "compose"}}}, {"postgres", "vault", "lab", "host"}, {"fly"}),
        ({"environments": {"f": {"target": "fly"}}}, {"fly", "monitor"}, {"postgres", "lab"}),
        ({"target": "fly", "environments": None}, {"fly"}, {"vault"}),
        ({"environments": {"p": {"target": "compose"}, "f": {"target": "fly"}}}, {"fly", "lab"}, set()),
        ({"environments": "nonsense"}, {"prefect"}, {"fly"}),
    ],
)
def test_the_overview_shows_what_the_environments_use(
    raw: dict[str, object], seen: set[str], unseen: set[str]
) -> None:
    shown = overview.lines(ROOT, tasks.namespace, overview.targets_of(raw))
    groups = {line.split()[2] for line in shown if line.startswith("  ./invoke --list ")}
    assert seen <= groups
    assert not unseen & groups
    rest = "\n".join(shown).partition("Not used by your environments: ")[2]
    assert unseen <= {*re.findall(r"[a-z]+", rest)}, "what is not shown is named, with how to see it"
    assert "./invoke --list NAME" in rest or not unseen
    assert len(shown) <= 40
    assert [line for line in shown if len(line) > COLUMNS or "…" in line] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_task(name: str) -> None:
    """In 80 columns, without Invoke's jargon, and with each default and each required option."""
    task = tasks.namespace[name]
    shown = task_help.lines(name, task)
    assert [line for line in shown if len(line) > COLUMNS] == []
    text = "\n".join(shown)
    for jargon in ("core-opts", "--options", "other tasks", "Docstring", "jti"):
        assert jargon not in text
    assert shown[0].startswith(f"Usage: ./invoke {name}")
    rows = _rows(shown)
    for argument in task.get_arguments():
        if argument.name in task.placed:
            assert f" {task.placed[argument.name]} " in f"{shown[0]} "
            continue
        told = rows[f"--{argument.names[0]}"]
        assert told.endswith("(required)") == argument.positional
        if argument.kind is not bool and argument.default:
            assert told.endswith(f"(default {argument.default})".replace(".0)", ")"))


def _rows(shown: list[str]) -> dict[str, str]:
    """Long flag → its text, unwrapped."""
    found: dict[str, str] = {}
    flag = ""
    for line in shown[shown.index("Options:") + 1 :] if "Options:" in shown else ():
        if head := re.match(r"  (?:-\w, )?(--[a-z-]+)(?:=[A-Z]+)?(?: +|\Z)", line):
            flag = head[1]
            found[flag] = line[head.end() :].strip()
        elif line:
            found[flag] += f" {line.strip()}"
    return found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gateway.create-token"], "gateway.create-token: --project and --service are required"),
        (["gateway.create-token", "--project", "p"], "gateway.create-token: --service is required"),
        (["prefect.exec"], "prefect.exec: SERVICE is required"),
        (["gateway.revoke-token"], "gateway.revoke-token: ID is required"),
        (["prefect.rotate-secret"], "prefect.rotate-secret: NAME is required"),
        (["platform.history"], "platform.history: --env is required"),
        (["prefect.restore", "--file"], "prefect.restore: --file needs a value"),
        (["authentik.create-proxy-app", "--external-host"], "--external-host needs a value"),
        (["prefect.logs", "--lines", "abc"], "prefect.logs: --lines 'abc': not a whole number"),
        (["prefect.logs", "--lines=abc"], "prefect.logs: --lines 'abc': not a whole number"),
        (["prefect.logs", "-l", "it's"], 'prefect.logs: -l "it\'s": not a whole number'),
        (["fly.cost", "--hours", "some"], "fly.cost: --hours 'some': not a number"),
        (["authentik.create-proxy-app", "--port=x"], "--port 'x': not a whole number"),
    ],
)
def test_a_mistake_is_named_as_the_help_names_it(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = PlatformProgram(ROOT)
    program.namespace = tasks.namespace
    with pytest.raises(SystemExit) as ended:
        program.run(["./invoke", *words])
    told = capsys.readouterr().err.splitlines()
    assert (ended.value.code, told[1:]) == (2, [f"hint: ./invoke --help {words[0]}"])
    assert told[0].endswith(says)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--dry", "prefect.stop"], "prefect.stop has no dry run; ./invoke --help prefect.stop"),
        (["prefect.remove", "--yes", "--data", "--dry"], "without --yes, ./invoke prefect.remove only says"),
        (["-R", "prefect.setup"], "./invoke prefect.setup --dry-run shows the plan and touches nothing"),
        (["platform.setup", "--dry"], "./invoke platform.setup --dry-run shows the plan and touches nothing"),
        (["gateway.revoke-token", "--dry"], "gateway.revoke-token has no dry run"),
        (["prefect.exec", "server", "sh"], "the command comes after --: ./invoke --help prefect.exec"),
    ],
)
def test_a_refused_line_names_what_was_meant(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = PlatformProgram(ROOT)
    program.namespace = tasks.namespace
    with pytest.raises(SystemExit) as ended:
        program.run(["./invoke", *words])
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert f"hint: {hint}" in told.err


def test_only_options_of_the_task_are_known() -> None:
    """By their letters too, joined with a value, and turned off."""
    for name in NAMES:
        for argument in tasks.namespace[name].get_arguments():
            words = [f"-{each}" if len(each) == 1 else f"--{each}" for each in argument.names]
            if argument.kind is bool and argument.default is True:
                words.append(f"--no-{argument.names[0]}")
            for word in words:
                value = ["--value"] if argument.takes_value else []
                given = [[word, *value], *([f"{word}=-v"] for _ in value)]
                for each in given:
                    assert options.unknown([name, *each], tasks.namespace, ()) is None, (name, each)
                    found = options.unknown([name, *each, "--other=1", name], tasks.namespace, ())
                    assert found
                    assert found[0] == "--other"
        assert options.unknown([name, "--core"], tasks.namespace, {"--core"}) is None


def test_an_option_with_a_value_counts_once_for_each_task() -> None:
    for name in NAMES:
        for argument in tasks.namespace[name].get_arguments():
            option = f"--{argument.names[0]}"
            if not argument.takes_value or argument.kind is list:
                continue
            again = [name, option, "a", f"{option}=b"]
            assert (found := options.twice(again, tasks.namespace)), again
            assert found[0] == option
            assert options.twice([name, option, option, name, option, "a"], tasks.namespace) is None


def test_what_is_said_of_workers_and_releases_is_of_that_stack() -> None:
    for stack in ("prefect", "gateway", "redis"):
        text = "\n".join(
            "\n".join(task_help.lines(f"{stack}.{name}", tasks.namespace[f"{stack}.{name}"]))
            for name in ("restart", "stop", "rollback", "remove", "setup")
        )
        assert ("workers finish" in text) == (stack == "prefect")
        assert set(re.findall(r"\b([a-z]+)\.(?:releases|remove)\b", text)) == {stack}
        assert (f"./invoke {stack}.remove --env production --yes" in text) == (stack != "prefect")


def test_recovery_asks_for_no_key_that_it_cannot_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = PlatformProgram(ROOT)
    program.namespace = tasks.namespace
    with pytest.raises(SystemExit) as ended:
        program.run(["./invoke", "vault.recover", "--env", "local"])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "target local keeps its secrets in a file" in told
    assert "recovery keys" not in told
