"""`./invoke` from anywhere, and its errors: one paragraph, the right exit code, no traceback unless it is a bug."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Clone

SHELLS = ("dash", "bash", "busybox sh")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_symlink_from_another_folder(ready: Clone, tmp_path: Path, shell: str) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "first").symlink_to(os.path.relpath(ready.root / "invoke", elsewhere))
    (elsewhere / "second").symlink_to("first")
    result = subprocess.run(
        [*shell.split(), str(elsewhere / "second"), "where"],
        cwd=elsewhere,
        env=ready.environ({"CDPATH": str(tmp_path)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == str(elsewhere), "the working directory must stay the user's"


@pytest.mark.parametrize("shell", SHELLS)
def test_given_to_a_shell_by_its_bare_name(ready: Clone, shell: str) -> None:
    result = subprocess.run(
        [*shell.split(), "invoke", "where"],
        cwd=ready.root,
        env=ready.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_hostile_place(ready: Clone, tmp_path: Path) -> None:
    """Modules of the working directory, of PYTHONPATH and of tasks/ must not pass for ours, nor may PYTHONPATH go on to children."""
    for module in ("invoke", "yaml", "prefect_platform", "sitecustomize", "venv", "argparse"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('hostile module')\n")
    (ready.root / "tasks" / "colorsys.py").write_text(
        "raise SystemExit('a task module passed for colorsys')\n"
    )
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path)}
    result = ready.run("where", cwd=tmp_path, env=hostile)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        str(tmp_path),
        f"{ready.root}/src/prefect_platform",
        "no PYTHONPATH",
    ]


def test_no_task_gives_an_overview(ready: Clone) -> None:
    result = ready.run()
    assert (result.returncode, result.stderr) == (0, "")
    assert "First steps\n  ./invoke prefect.setup  Bring everything up." in result.stdout
    assert "prefect.status" not in result.stdout, "a first step that does not exist"


def test_version(ready: Clone) -> None:
    assert ready.run("--version").stdout.startswith("./invoke ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prefect.setpu"], "no such task: 'prefect.setpu'\nhint: did you mean prefect.setup?"),
        (["--help", "prefect.setpu"], "did you mean prefect.setup?"),
        (["setup"], "no such task: 'setup'\nhint: did you mean prefect.setup?"),
        (["prefect"], "'prefect' is a group of tasks, not a task\nhint: ./invoke --list prefect"),
        (["prefcet"], "no such task: 'prefcet'\nhint: ./invoke --list prefect"),
        (
            ["prefect.setup", "--evn", "x"],
            "prefect.setup: unknown option --evn\nhint: did you mean --env?",
        ),
        (["--env", "x", "prefect.setup"], "a task's options come after its name"),
        (
            ["prefect.setup", "--port", "many"],
            "prefect.setup: --port 'many': not a whole number\nhint: ./invoke --help prefect.setup",
        ),
        (["prefect.setup", "--port=many"], "prefect.setup: --port 'many': not a whole number"),
        (["prefect.setup", "--env"], "prefect.setup: --env needs a value\nhint: ./invoke --help"),
        (
            ["prefect.setup", "--env=local", "--env", "production"],
            "prefect.setup: --env is given twice\nhint: ./invoke --help prefect.setup",
        ),
        (["needs"], "needs: WORD is required\nhint: ./invoke --help needs"),
        (["-f", "no-such.yaml", "where"], "no-such.yaml: no such settings file"),
        (["-f", "tasks/settings.txt", "where"], "not supported"),
        (["--list", "nonsense"], "no such namespace: 'nonsense'"),
        (["-D", "2", "where"], "./invoke --list-depth: only with --list\nhint: ./invoke --help"),
        (["-F", "json", "where"], "./invoke --list-format: only with --list\nhint: ./invoke --help"),
        (["needs", "--unknown"], "needs: unknown option --unknown\nhint: ./invoke --help needs"),
        (["where", "local"], "./invoke: no such task: 'local'"),
        (
            ["prefect.setup", "local"],
            "hint: an environment is given with --env: ./invoke prefect.setup --env local\n",
        ),
        (["prefect.setup", "remote"], "--env: ./invoke prefect.setup --env remote; a value with spaces"),
        (["local", "prefect.setup"], "--env: ./invoke prefect.setup --env local\n"),
        (["local"], "hint: an environment is given after the task"),
        (["prefect.setup", "setup"], "no such task: 'setup'\nhint: did you mean prefect.setup?"),
        (["-D", "x", "-l"], "./invoke: -D 'x': not a whole number\nhint: ./invoke --help"),
        (["-F", "nope", "-l"], "--list-format: 'nope' is none of flat, nested, json\nhint: ./invoke --help"),
        (["-F", "nope", "prefect.setup"], "--list-format: 'nope' is none of"),
        (["-c", "foo"], "any collection named 'foo'!\nhint: leave out --collection"),
        (["-r", "/", "-l"], "any collection named 'tasks'!\nhint: leave out --collection"),
    ],
)
def test_a_wrong_command_line(ready: Clone, words: list[str], says: str) -> None:
    assert_clean(ready.run(*words), says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("platform:\n  a: [\n", "invoke.yaml:3: invalid YAML"),
        (
            "platform:\n  a: 1\n  b: 2\n  a: 3\n",
            "invoke.yaml:4: invalid YAML: duplicate key 'a'",
        ),
        ("platform: \n\ty: 1", "invoke.yaml:2: invalid YAML"),
        ("- platform\n", "invoke.yaml: expected a mapping of settings, found list"),
        ("run: {}\nplatfrom:\n  a: 1\n", "invoke.yaml:2: platfrom: unknown key; did you mean 'platform'?"),
        ("environments: {}\n", "invoke.yaml:1: environments: unknown key; settings are under `platform:`"),
        ("lab: 5\n", "settings: lab: a mapping in one file, a single value in another"),
        (
            "run:\n  env: 7\n",
            "settings: run.env: a mapping in one file, a single value in another",
        ),
        ("caf\xe9: 1\n", "invoke.yaml: not UTF-8 (byte"),
        ("platform: hi\n", "invoke.yaml:1: platform: must be a mapping"),
        ("platform: !!set {a}\n", "invoke.yaml:1: platform: must be a mapping"),
        ("run: {}\n1: b\n", "invoke.yaml:2: invalid YAML: key '1' is not text"),
        ("platform: &p {prefect: *p}\n", "invoke.yaml:1: invalid YAML: contains itself"),
        (
            "platform:\n  domain: 2020-13-45\n",
            "invoke.yaml:2: invalid YAML: '2020-13-45' is not a valid timestamp",
        ),
        ("platform: " + "[" * 3000, "invoke.yaml:1: nested too deep"),
        (
            "tasks: {executor_class: foo.bar}\n",
            "invoke.yaml:1: tasks.executor_class: 'foo.bar': no such class",
        ),
    ],
)
def test_a_wrong_settings_file(ready: Clone, text: str, says: str) -> None:
    (ready.root / "invoke.yaml").write_bytes(text.encode("latin-1"))
    assert_clean(ready.run("prefect.setup"), says)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INVOKE_LAB_GATEWAY_PORT", "http", "INVOKE_LAB_GATEWAY_PORT: must be a number, is 'http'"),
        ("INVOKE_LAB_STRICT", "maybe", "INVOKE_LAB_STRICT: must be true or false, is 'maybe'"),
        (
            "INVOKE_PLATFROM_GATEWAY_PORT",
            "1",
            "INVOKE_PLATFROM_GATEWAY_PORT: no such setting; did you mean INVOKE_PLATFORM_GATEWAY_PORT?",
        ),
        ("INVOKE_LAB_ROUTES", "a,b", "INVOKE_LAB_ROUTES: a variable cannot set a list"),
        ("INVOKE_LAB_A_B", "1", "INVOKE_LAB_A_B: ambiguous: lab.a.b and lab.a_b"),
    ],
)
def test_a_wrong_variable(ready: Clone, variable: str, value: str, says: str) -> None:
    (ready.root / "invoke.yaml").write_text("lab: {a: {b: 1}, a_b: 2}\n")
    assert_clean(ready.run("prefect.setup", env={variable: value}), says)


def test_variables_and_files_are_read(ready: Clone) -> None:
    (ready.root / "invoke.yaml").write_text("lab: {gateway: {port: 1}, a: {b: 1}, a_b: 2}\n")
    assert ready.run("prefect.setup").stdout == "setup local 0 1 True\n"
    (ready.root / "other.yaml").write_text("lab: {strict: false}\n")
    changed = ready.run("-f", "other.yaml", "prefect.setup", "--env=x", env={"INVOKE_LAB_GATEWAY_PORT": "7"})
    assert changed.stdout == "setup x 0 7 False\n"
    assert ready.run("prefect.setup", env={"INVOKE_LAB_STRICT": "false"}).stdout == "setup local 0 1 False\n"


def test_a_misspelt_platform_is_refused_in_every_file(ready: Clone, tmp_path: Path) -> None:
    """A home's own file may have what other projects need, but no slip in `platform`."""
    (tmp_path / ".invoke.yaml").write_text("docker: {registry: mine}\n")
    assert ready.run("prefect.setup", env={"HOME": str(tmp_path)}).returncode == 0
    (tmp_path / ".invoke.yaml").write_text("docker: {}\nplatfrom: {}\n")
    refused = ready.run("prefect.setup", env={"HOME": str(tmp_path)})
    assert_clean(refused, f"{tmp_path}/.invoke.yaml:2: platfrom: unknown key; did you mean 'platform'?")
    (tmp_path / "other.json").write_text('{\n"plaform": {}}')
    refused = ready.run("-f", str(tmp_path / "other.json"), "prefect.setup")
    assert_clean(refused, f"{tmp_path}/other.json:2: plaform: unknown key; did you mean 'platform'?")


def test_help_after_a_task_is_its_help(ready: Clone) -> None:
    """Also where a flag or an argument still wants its value."""
    wanted = ready.run("--help", "prefect.setup").stdout
    assert wanted.startswith("Usage: ./invoke prefect.setup [options]\n")
    for words in (["--help"], ["-h"], ["--env", "--help"], ["--port=1", "--help", "--env", "x"]):
        result = ready.run("prefect.setup", *words)
        assert (result.returncode, result.stdout, result.stderr) == (0, wanted, "")
    needs = ready.run("needs", "--help")
    assert (needs.returncode, needs.stdout.splitlines()[0]) == (
        0,
        "Usage: ./invoke needs WORD",
    )
    assert ready.run("needs", "a", "--", "--help").stdout == "needs a\n"


def test_variables_of_the_platform_are_left_to_its_settings(ready: Clone) -> None:
    (ready.root / "invoke.yaml").write_text("platform: {port: 1, routes: []}\n")
    result = ready.run("prefect.setup", env={"INVOKE_PLATFORM_PORT": "x", "INVOKE_PLATFORM_ROUTES": "y"})
    assert (result.returncode, result.stderr) == (0, "")


def test_a_bug_stays_a_traceback(ready: Clone) -> None:
    result = ready.run("bug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "RuntimeError: a bug" in result.stderr


def test_ctrl_c(ready: Clone) -> None:
    call = ready.start("wait")
    assert call.stdout
    assert call.stdout.readline() == "waiting\n"
    os.killpg(call.pid, signal.SIGINT)
    _, err = call.communicate()
    assert call.returncode == 130
    assert len(err.splitlines()) == 1


def test_a_reader_that_leaves_early(ready: Clone) -> None:
    call = ready.start("flood")
    assert call.stdout
    assert call.stderr
    assert call.stdout.readline() == "0\n"
    call.stdout.close()
    assert call.stderr.read() == ""
    call.stderr.close()
    assert call.wait() == 0


def _gone() -> int:
    """The writing end of a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.mark.parametrize("plan", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("code", [0, 5])
def test_work_is_finished_and_its_code_told_though_nobody_reads(ready: Clone, plan: str, code: int) -> None:
    gone = _gone()
    with (ready.root / "kept").open("wb") as kept:
        done = subprocess.run(
            [ready.root / "invoke", "change", f"--code={code}"],
            cwd=ready.root,
            env=ready.environ(),
            stdout=kept if plan == "stderr" else gone,
            stderr=kept if plan == "stdout" else gone,
            check=False,
        )
    os.close(gone)
    assert done.returncode == code
    assert (ready.root / "changed").read_text() == "yes"
    wanted = {"both": "", "stderr": "data\n" * 3, "stdout": "message\nof a program\n" * 3}
    assert (ready.root / "kept").read_text() == wanted[plan]


@pytest.mark.parametrize("code", [0, 5])
@pytest.mark.parametrize("onto", ["2>/dev/full", "2>&-"])
def test_messages_that_nobody_can_receive_stop_no_work(ready: Clone, code: int, onto: str) -> None:
    result = _in_shell(ready, f"./invoke change --code={code} {onto}")
    assert (result.returncode, result.stdout, result.stderr) == (code, "data\n" * 3, "")
    assert (ready.root / "changed").read_text() == "yes"


@pytest.mark.parametrize("onto", ["2>/dev/full", "2>&-", ">&- 2>&-"])
def test_an_environment_is_made_though_nobody_reads_of_it(clone: Clone, onto: str) -> None:
    """The builder waits for another one here, and says so."""
    holder = (clone.root / ".venv.guard").open("w")
    fcntl.flock(holder, fcntl.LOCK_EX)
    with subprocess.Popen(
        ["sh", "-c", f"./invoke change {onto}"], cwd=clone.root, env=clone.environ()
    ) as call:
        time.sleep(1)
        assert call.poll() is None
        holder.close()
    assert call.returncode == 0
    assert (clone.root / "changed").read_text() == "yes"
    assert "waiting" not in (clone.root / ".venv.guard").read_text()


WITHOUT_EFFECT = ["--dry", "-R", "-p", "--pty", "--hide=both", "-w", "--warn-only", "-T", "-e", "--echo"]
WITHOUT_EFFECT += ["--command-timeout=3", "--prompt-for-sudo-password", "--write-pyc"]


@pytest.mark.parametrize("option", WITHOUT_EFFECT)
def test_an_option_of_invoke_that_does_nothing_here_is_refused(ready: Clone, option: str) -> None:
    """Before and after the task; --dry would let it run for real."""
    for words in ([option, "change"], ["change", option], ["where", option, "change"]):
        assert_clean(ready.run(*words), f"unknown option {option.partition('=')[0]}")
        assert not (ready.root / "changed").exists()
    if option != "-w":  # the letter of its --word
        assert_clean(ready.run("needs", option), f"needs: unknown option {option.partition('=')[0]}")
    flag = option.partition("=")[0]
    assert not re.search(rf"(?<![\w-]){flag}(?![\w-])", ready.run("--help").stdout)


CLOSED = [
    ("--version", 0, ""),
    ("", 0, ""),
    ("--list", 0, ""),
    ("prefect.setup", 0, ""),
    ("flood", 0, ""),
    ("prefect.stup", 2, "./invoke: no such task: 'prefect.stup'\n"),
]


@pytest.mark.parametrize(("words", "code", "says"), CLOSED)
def test_closed_output_is_no_output(ready: Clone, words: str, code: int, says: str) -> None:
    result = _in_shell(ready, f"./invoke {words} >&-")
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith(says)
    assert bool(result.stderr) is bool(says)


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_messages_never_go_to_standard_output(ready: Clone, closed: str) -> None:
    result = _in_shell(ready, f"./invoke prefect.stup {closed}")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "")
    result = _in_shell(ready, f"./invoke prefect.setup {closed}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "setup local 0 4200 True\n", "")


@pytest.mark.parametrize("words", ["--version", "", "--list", "prefect.setup", "flood"])
def test_output_to_a_full_disk_is_an_error(ready: Clone, words: str) -> None:
    result = _in_shell(ready, f"./invoke {words} >/dev/full")
    assert (result.returncode, result.stderr) == (1, "./invoke: standard output: No space left on device\n")


def _in_shell(clone: Clone, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], cwd=clone.root, env=clone.environ(), capture_output=True, text=True, check=False
    )


def test_tab_completion(ready: Clone) -> None:
    script = """
        source <(./invoke --print-completion-script=bash)
        complete -p ./invoke >/dev/null || exit 1
        COMP_WORDS=(./invoke prefect.s); _complete_./invoke ./invoke prefect.s; echo "${COMPREPLY[@]}"
        COMP_WORDS=(./invoke prefect.setup --); _complete_./invoke ./invoke --; echo "${COMPREPLY[@]}"
    """
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=ready.root,
        env=ready.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["prefect.setup", "--env --port"]


def assert_clean(result: subprocess.CompletedProcess[str], says: str) -> None:
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert result.stdout == ""
