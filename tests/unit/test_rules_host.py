"""Ports, pruning, the lock, sudo, private files: whole command lines."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.config.stack import Stack
from prefect_platform.errors import LockedError, PlatformError, PreflightError
from prefect_platform.planning.bundle import Bundle, Service
from prefect_platform.planning.diff import Plan, Step
from prefect_platform.targets.docker import facts, ports, releases
from prefect_platform.targets.docker.runner import SshRunner
from prefect_platform.targets.protocol import Prepares, require

from .conftest import ROOT, Load
from .rules import DOCKER, FACTS, FakeHost, container


def _service(*published: str) -> Service:
    spec = {"ports": list(published), "container_name": "platform-door", "user": "1001:1001"}
    return Service("door", "door", (), {}, "", "", 0, (), {}, (), spec)


def _listening(fake: FakeHost, *addresses: str) -> None:
    lines = (f'LISTEN 0 128 {each} 0.0.0.0:* users:(("nginx",pid=7,fd=3))\n' for each in addresses)
    fake.runner.answer("sh", "-c", "ss *", out="".join(lines))


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        ("0.0.0.0:80:8080", "127.0.0.1:80"),
        ("127.0.0.1:80:8080", "0.0.0.0:80"),
        ("127.0.0.1:80:8080", "[::]:80"),
        ("127.0.0.1:80:8080", "*:80"),
        ("10.0.0.1:80:8080", "10.0.0.1:80"),
        ("80:8080", "10.0.0.1:80"),
        ("[::1]:80:8080", "[::1]:80"),
    ],
)
def test_a_port_that_another_process_has_is_refused_with_its_name(
    fake: FakeHost, wanted: str, held: str
) -> None:
    _listening(fake, held)
    with pytest.raises(PreflightError, match=r"port 80, which door-door .*nginx \(pid 7\)"):
        ports.check(fake.target.host, [_service(wanted)], fake.target.settings)


@pytest.mark.parametrize(
    ("raw", "environ", "key"),
    [
        ({"traefik": {"http_port": 81}}, {}, "platform.traefik.http_port"),
        (
            {"environments": {"lab": {"traefik": {"http_port": 81}}}},
            {},
            "platform.environments.lab.traefik.http_port",
        ),
        ({}, {}, "platform.environments.lab.traefik.http_port"),
        ({}, {"INVOKE_PLATFORM_TRAEFIK_HTTP_PORT": "81"}, "INVOKE_PLATFORM_TRAEFIK_HTTP_PORT"),
    ],
    ids=["common", "environment", "shipped", "variable"],
)
def test_the_hint_for_a_taken_port_names_the_key_where_it_takes_effect(
    load: Load, fake: FakeHost, raw: dict[str, Any], environ: dict[str, str], key: str
) -> None:
    env = "lab" if raw.get("traefik") is None else "vps"
    raw = {**raw, "environments": {**raw.get("environments", {}), "vps": {"target": "compose", "host": "h"}}}
    chosen = load(raw, env=env, environ=environ, root=ROOT)
    port = chosen.values["traefik"]["http_port"]
    _listening(fake, f"0.0.0.0:{port}")
    published = replace(_service(f"0.0.0.0:{port}:8080"), stack="traefik")
    with pytest.raises(PreflightError) as caught:
        ports.check(fake.target.host, [published], chosen)
    assert caught.value.hint.endswith(f"choose another port: {key}")


def test_a_port_on_another_address_or_our_own_is_free(fake: FakeHost) -> None:
    _listening(fake, "10.0.0.2:80")
    ports.check(fake.target.host, [_service("10.0.0.1:80:8080")], fake.target.settings)
    _listening(fake, "0.0.0.0:80")
    mine = container("door", "door", "platform-door")
    mine["NetworkSettings"] = {
        "Ports": {"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}], "9/tcp": None}
    }
    fake.containers(mine)
    ports.check(fake.target.host, [_service("0.0.0.0:80:8080")], fake.target.settings)
    with pytest.raises(PreflightError):
        ports.check(fake.target.host, [_service("0.0.0.0:80:8080", "0.0.0.0:443:8443")], fake.target.settings)


def test_a_nearly_full_disk_is_refused_only_when_there_is_something_to_do(fake: FakeHost) -> None:
    fake.runner.answer("sh", "-c", "*/proc/meminfo*", out=FACTS.replace("99999999999", "1048576"))
    fake.target.preflight(Plan(()), [])
    with pytest.raises(PreflightError, match="1 MiB free"):
        fake.target.preflight(Plan((Step("write", "a", "new"),)), [])


def test_old_releases_go_with_the_images_that_only_they_name(fake: FakeHost) -> None:
    old = {0: "app:gone", 1: "app:shared", 2: "app:new", 3: "app:half\n    image: app:kept"}
    for number in range(13):
        image = old.get(number, "app:kept")
        fake.release("app", f"20260101T0000{number:02}Z-a", f"services:\n  one:\n    image: {image}\n")
    fake.release("other", "20260101T000000Z-a", "services:\n  one:\n    image: 'app:shared'\n")
    host, folder = fake.target.host, fake.root / "lab/app"
    gone, images = releases.outdated(host, str(folder), {"app:new"})
    assert gone == [f"20260101T0000{number:02}Z-a" for number in range(4)]
    assert images == ["app:gone", "app:half"]
    assert fake.docker() == []
    releases.delete(host, str(folder), gone, images)
    left = sorted(path.name for path in (folder / "releases").iterdir())
    assert left == [f"20260101T0000{number:02}Z-a" for number in range(4, 13)]
    assert fake.docker() == ["docker image rm app:gone", "docker image rm app:half"]


def test_nothing_goes_while_there_are_few_releases(fake: FakeHost) -> None:
    host, folder = fake.target.host, str(fake.root / "lab/app")
    assert releases.outdated(host, folder, ()) == ([], [])
    for number in range(9):
        fake.release("app", f"20260101T0000{number:02}Z-a")
    assert releases.outdated(host, folder, ()) == ([], [])


def test_the_lock_names_its_holder_and_ends_with_it(fake: FakeHost) -> None:
    host, folder = fake.target.host, str(fake.root / "lab")
    with (
        host.lock(folder, "one", 0, fake.said.append),
        pytest.raises(LockedError, match=r"in use by one\n"),
        host.lock(folder, "two", 0, fake.said.append),
    ):
        pass
    done = threading.Event()

    def third() -> None:
        with host.lock(folder, "three", 5, fake.said.append):
            done.set()

    with host.lock(folder, "two", 0, fake.said.append):
        waiting = threading.Thread(target=third)
        waiting.start()
        while "waiting for two" not in fake.said:
            assert waiting.is_alive()
        assert not done.is_set()
    waiting.join(10)
    assert done.is_set()


SUDO = FACTS.replace("uid=0", "uid=1000").replace("user=root", "user=me\nsudo=yes")
GROUP = FACTS.replace("uid=0", "uid=1000").replace("user=root", "user=me")


def test_a_user_with_sudo_rises_for_everything(fake: FakeHost) -> None:
    fake.runner.answer("sh", "-c", "*/proc/meminfo*", out=SUDO)
    fake.runner.answer("sudo", "-n", "docker", "stop")
    fake.containers(container("app", "server"))
    fake.target.stop(["app-server"])
    rest = fake.runner.lines("sudo")
    assert rest == ["sudo -n docker system dial-stdio", "sudo -n docker stop platform-app-server-lab"]


def test_a_bare_host_is_prepared_as_root(fake: FakeHost) -> None:
    fake.runner.answer("sudo", "-n", out="installed\n")
    fake.runner.answer("id", "-u", out="1000\n")
    assert require(fake.target, Prepares).prepare() == "installed\n"
    assert fake.runner.lines("sudo") == ["sudo -n true", f"sudo -n sh -s -- {fake.root}"]
    fake.runner.answer("sudo", "-n", "true", code=1)
    with pytest.raises(PreflightError, match="needs root or passwordless sudo"):
        require(fake.target, Prepares).prepare()


def test_private_files_belong_to_their_reader_alone(fake: FakeHost) -> None:
    fake.runner.answer("sh", "-c", "*chown*")
    fake.target.host.lay_private("/x/private", {"key.pem": b"secret"}, "65532:65532", "traefik:1")
    (call,) = (each for each in fake.runner.calls if b"secret" in each.stdin)
    assert call.words[3:] == ("sh", "/x/private", "65532:65532")
    assert "umask 077" in call.words[2]
    assert 'chown -R "$2" .' in call.words[2]


def test_who_is_not_root_writes_private_files_in_a_container(fake: FakeHost, tmp_path: Path) -> None:
    fake.runner.answer("sh", "-c", "*/proc/meminfo*", out=GROUP)
    fake.runner.answer("docker", "run")
    folder = tmp_path / "private"
    fake.target.host.lay_private(str(folder), {"key.pem": b"secret"}, "65532:65532", "traefik:1")
    (line,) = fake.docker()
    assert line.startswith(
        "docker run --rm -i --network none --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER"
        f" -u 0:0 -v {folder}:/x --entrypoint /bin/sh traefik:1 -c "
    )
    assert folder.is_dir()
    assert all("secret" not in call.line for call in fake.runner.calls)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("docker=yes\n", "docker is not installed"),
        ("engine=yes\n", "cannot reach a Docker engine"),
        ("compose=2.40.1\n", "Docker Compose is missing; 2.24 or newer"),
    ],
)
def test_a_host_that_lacks_something_is_refused(fake: FakeHost, change: str, says: str) -> None:
    fake.runner.answer("sh", "-c", "*docker info*", out=DOCKER.replace(change, ""))
    with pytest.raises(PreflightError, match=says):
        fake.target.host.require_docker()


def test_a_line_of_history_that_was_cut_off_is_passed_over(fake: FakeHost) -> None:
    fake.history(("app.setup", "r1", "good"))
    with (fake.root / "lab/history.jsonl").open("a") as file:
        file.write(json.dumps({"time": ""})[:-3] + "\n")
    assert [each.release for each in fake.target.history()] == ["r1"]


def test_a_user_without_rights_on_the_root_folder_is_refused(fake: FakeHost) -> None:
    fake.runner.answer("sh", "-c", "*/proc/meminfo*", out=GROUP.replace("writable=yes\n", ""))
    with pytest.raises(PreflightError, match=f"me may not write {fake.root}"):
        fake.target.host.require_docker()


def test_an_engine_that_does_not_answer_is_explained(fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(words: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours

    monkeypatch.setattr(fake.runner, "connect", closed)
    with pytest.raises(PlatformError, match="the Docker engine does not answer"):
        fake.target.processes()
    fake.runner.answer("sh", "-c", "*docker info*", out="")
    with pytest.raises(PreflightError, match="docker is not installed"):
        fake.target.processes()


def test_the_command_to_try_is_one_that_reaches_the_host_as_we_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    config = tmp_path / "ssh config"
    with socket.socket() as taken:
        # Bound, and nobody listens: refused.
        taken.bind(("127.0.0.1", 0))
        config.write_text(f"Host there\n  HostName 127.0.0.1\n  Port {taken.getsockname()[1]}\n")
        with pytest.raises(PreflightError) as refused:
            SshRunner("there", config).run(["true"])
    assert "Connection refused" in refused.value.reason
    assert f"ssh -F '{config}' there true" in refused.value.hint


@pytest.mark.parametrize(
    ("account", "warned"),
    [
        ("person.1001=alice", True),
        ("person.1002=alice", False),
        ("person.1001=root", False),
        ("person.0=toor", False),
    ],
    ids=["a person's", "nobody's", "the operator's own", "root's"],
)
def test_an_account_that_can_read_our_containers_is_named_once(
    fake: FakeHost, account: str, warned: bool
) -> None:
    fake.runner.answer("sh", "-c", "*/proc/meminfo*", out=f"{FACTS}{account}\n")
    _listening(fake)
    service = _service("0.0.0.0:80:8080")
    bundle = Bundle(Stack("door", Path(), "", "door", (), (), (), {}), {}, (service,), None)
    for _ in range(2):
        fake.target.preflight(Plan((Step("start", "door-door", ""),)), [bundle])
    said = [line for line in fake.said if "alice has the uid 1001 of our containers" in line]
    assert len(said) == warned


def test_accounts_without_a_shell_are_no_people(tmp_path: Path) -> None:
    """By the script itself: the accounts of this machine."""
    text = subprocess.run(
        ["sh", "-c", facts.LOOK, "sh", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    people = facts.parse(text).people
    assert people[0] == "root"
    assert "nobody" not in people.values()
    assert "daemon" not in people.values()
