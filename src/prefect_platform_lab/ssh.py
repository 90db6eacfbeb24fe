"""The lab's door: a real sshd on a loopback port, keys only, and a client configuration that trusts this one host key."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from prefect_platform.files import write_atomic

from .commands import run
from .layout import Layout

HOST = "platform-lab"
DEPLOYER = "platform-lab-deployer"

_SSHD = """\
# Made by ./invoke lab.up
Port {port}
ListenAddress 127.0.0.1
HostKey "{state}/host_key"
PidFile none
AuthorizedKeysFile {run}/authorized_keys
AllowUsers root deployer
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
AcceptEnv LANG LC_*
MaxStartups 60
MaxSessions 60
Subsystem sftp internal-sftp
SetEnv DOCKER_HOST=unix://{socket}
"""
_CLIENT = """\
# Made by ./invoke lab.up: ssh -F this-file platform-lab
Host {host} {deployer}
    HostName 127.0.0.1
    HostKeyAlias {host}
    Port {port}
    IdentityFile "{state}/client_key"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "{state}/known_hosts"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PasswordAuthentication no
    BatchMode yes
    ConnectTimeout 10
Host {host}
    User root
Host {deployer}
    User deployer
"""


def write(layout: Layout) -> None:
    """Keys (once) and both configurations. The port of before is kept if it is still free."""
    for name in ("host_key", "client_key"):
        if not (layout.state / f"{name}.pub").exists():
            (layout.state / name).unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", HOST, "-f", layout.state / name])
    port = _port(layout.ssh_config)
    known = {"port": port, "state": layout.state, "run": layout.run, "socket": layout.socket}
    host_key = (layout.state / "host_key.pub").read_text().split()
    write_atomic(layout.state / "known_hosts", f"{HOST} {host_key[0]} {host_key[1]}\n".encode())
    write_atomic(layout.state / "sshd_config", _SSHD.format(**known).encode())
    client = _CLIENT.format(**known, host=HOST, deployer=DEPLOYER)
    write_atomic(layout.ssh_config, client.encode())
    # sshd reads it as the user who logs in, who may not read the state folder.
    key = (layout.state / "client_key.pub").read_bytes()
    write_atomic(layout.run / "authorized_keys", key, 0o644)


def port_of(ssh_config: Path) -> int:
    """The port in one of our client configurations; 0 without one."""
    try:
        found = re.search(r"^\s+Port (\d+)$", ssh_config.read_text(), re.MULTILINE)
    except FileNotFoundError:
        return 0
    return int(found.group(1)) if found else 0


def _port(ssh_config: Path) -> int:
    for wanted in (port_of(ssh_config), 0):
        with socket.socket() as probe:
            # As sshd does it: a connection of the lab before that still waits to be forgotten is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("unreachable: port 0 is always free")
