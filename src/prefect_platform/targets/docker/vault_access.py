"""Vault as a Docker target reaches it, through the host when it is our own container: its set-up, and the login of each agent."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prefect_platform.config import images
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import PlatformError, PreflightError
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault import STACK, TOKEN

from . import agent
from .host import Host
from .tunnels import Tunnels

if TYPE_CHECKING:  # hvac is imported when Vault is used: not every command does
    from prefect_platform.secretstore.vault import setup
    from prefect_platform.secretstore.vault.kv import Vault, VaultStore


def tokens(settings: Settings, host: Host) -> FileStore:
    """Where this machine keeps its token: that of a host's own Vault serves all its environments."""
    address = settings.values["vault"]["address"]
    kind, name = ("vaults", str(address)) if address else ("hosts", host.runner.place)
    return FileStore(settings.state.parent / kind / re.sub(r"[^A-Za-z0-9.-]", "_", name))


class Access:
    """Vault as the operator reaches it, opened when it is first needed and closed with the process."""

    def __init__(self, host: Host, settings: Settings, tokens: FileStore, say: Callable[[str], None]) -> None:
        self.host = host
        self.settings = settings
        self.tokens = tokens
        self.say = say
        self._tunnels = Tunnels(host)

    @property
    def section(self) -> Mapping[str, Any]:
        values: Mapping[str, Any] = self.settings.values["vault"]
        return values

    def token(self) -> Secret | None:
        """The operator's: VAULT_TOKEN wins over what `vault.setup` kept."""
        given = os.environ.get("VAULT_TOKEN", "")
        return Secret(given) if given else self.tokens.read(STACK).get(TOKEN)

    @property
    def address(self) -> str:
        """As this machine reaches it. Raises PreflightError when our container does not exist."""
        return str(self.section["address"] or self._through_host())

    @property
    def _ca_cert(self) -> str | None:
        name = self.section["ca_cert"]
        return str(self.settings.root / name) if name else None

    def _through_host(self) -> str:
        network = agent.inner_network(self.settings)
        return self._tunnels.to(self.container, network, 8200, self._next_command)

    @property
    def container(self) -> str:
        """Our own Vault's."""
        return agent.container(self.settings)

    @property
    def _next_command(self) -> str:
        return f"./invoke {self.settings.roles.secrets}.setup --env {self.settings.env}"

    def vault(self, *, observing: bool = False) -> Vault:
        """With the operator's token; `observing` writes no policy and no role, only returns what it would."""
        from prefect_platform.secretstore.vault.kv import Vault

        return Vault(self.address, self.token(), self.section["mount"], self._ca_cert, observing=observing)

    @cached_property
    def _store(self) -> VaultStore:
        from prefect_platform.secretstore.vault.kv import VaultStore

        return VaultStore(self.vault(), self.settings.env)

    def store(self) -> VaultStore:
        """The environment's secrets. Raises PreflightError without a token."""
        if self.token() is None:
            raise PreflightError(
                "no token for Vault",
                f"{self._next_command}, or give one: VAULT_TOKEN=… ./invoke …",
            )
        return self._store

    # -- Vault itself
    def is_new(self) -> bool:
        """Whether our own Vault has never run on this host."""
        own = not self.section["address"]
        return own and self.host.engine.container(self.container) is None

    def set_up(self) -> tuple[str, ...]:
        """Initialise our own once and make it ready, or verify an external one; returns what was changed."""
        from prefect_platform.secretstore.vault import setup

        work, own = self._work(), not self.section["address"]
        report = setup.setup(work, VaultContainer(self)) if own else setup.verify(work, self.address)
        for notice in report.notices:
            self.say(f"note: {notice}")
        return report.changes

    def plan_set_up(self) -> tuple[str, ...]:
        """The changes that `set_up` would report now; writes nothing. Raises PlatformError for a Vault that cannot be reached."""
        from prefect_platform.secretstore.vault import setup

        if self.section["address"]:
            return setup.plan_renewal(self._work(), self.address)
        return setup.plan(self._work(), None if self.is_new() else VaultContainer(self))

    def recover(self, keys: Sequence[str]) -> None:
        """A new operator's token from Vault's recovery keys."""
        from prefect_platform.secretstore.vault import setup

        setup.recover(self._work(), self.address, [Secret(key) for key in keys])

    def _work(self) -> setup.Setup:
        from prefect_platform.secretstore.vault.setup import Setup

        return Setup(
            store=self.tokens,
            journal=self.tokens.folder / "vault-keys.json",
            policy=self.settings.vault_folder / "operator-policy.hcl",
            given=Secret(os.environ["VAULT_TOKEN"]) if os.environ.get("VAULT_TOKEN") else None,
            say=self.say,
            show=self._show,
            mount=self.section["mount"],
            ca_cert=self._ca_cert,
            keep_recovery_keys=self.section["keep_recovery_keys"],
        )

    def _show(self, lines: Sequence[str]) -> None:
        why = "" if self.section["keep_recovery_keys"] else _unseen()
        if why:
            raise PlatformError(
                f"Vault's recovery keys: standard error: {why}: nobody would see them; they are kept, as is the root token",
                "./invoke vault.setup in a terminal shows them and completes the setup",
            )
        for line in lines:
            self.say(line)

    # -- a stack's agent
    def admit(self, stack: Stack, folder: str, owner: str) -> tuple[str, ...]:
        """Policy, role, and the files the agent logs in with; returns what was changed. They outlive every deploy; a secret-id that
        no longer works is replaced.
        """
        vault, name = self.vault(), self._role(stack)
        changes = self._ensure_role(vault, stack)
        if self._login_works(vault, stack, folder):
            return changes
        self.say(f"issuing AppRole credentials to the agent of {stack.name}")
        secret_id = vault.new_secret_id(name)
        files = {"role-id": vault.role_id(name).encode(), "secret-id": secret_id.value.encode()}
        self.host.lay_private(f"{folder}/approle", files, owner, self._image)
        vault.drop_other_secret_ids(name, secret_id)
        return (*changes, f"created secret-id of {name}")

    def plan_admit(self, stack: Stack, folder: str) -> tuple[str, ...]:
        """The changes that `admit` would report now; writes nothing. All of them while there is no Vault or no token for it."""
        name = self._role(stack)
        if self.is_new() or self.token() is None:
            return (f"created policy {name}", f"created AppRole {name}", f"created secret-id of {name}")
        vault = self.vault(observing=True)
        changes = self._ensure_role(vault, stack)
        new = f"created AppRole {name}" in changes
        lost = new or not self._login_works(vault, stack, folder)
        return (*changes, f"created secret-id of {name}") if lost else changes

    def _role(self, stack: Stack) -> str:
        from prefect_platform.secretstore.vault.server import role_name

        return role_name(self.settings.env, stack.name)

    @property
    def _image(self) -> str:
        return images.pinned(self.section["image"], images.read(self.settings.root))

    def _ensure_role(self, vault: Vault, stack: Stack) -> tuple[str, ...]:
        name, paths = self._role(stack), list(agent.sources(self.settings, stack))
        done = {
            f"policy {name}": vault.ensure_policy(
                name, agent.render(self.settings, "policy.hcl.j2", name=name, paths=paths)
            ),
            f"AppRole {name}": vault.ensure_role(name, name),
        }
        return tuple(f"{result} {what}" for what, result in done.items() if result != "unchanged")

    def _login_works(self, vault: Vault, stack: Stack, folder: str) -> bool:
        """Whether the files on the host log in to the stack's role."""
        name, files = self._role(stack), self.host.read_private(f"{folder}/approle", self._image)
        secret_id = Secret(files.get("secret-id", b"").decode())
        if not secret_id.value or files.get("role-id", b"").decode() != vault.role_id(name):
            return False
        return vault.secret_id_works(name, secret_id)

    def dismiss(self, stack: Stack) -> None:
        """Delete the agent's role and policy; the values stay in Vault, where only an administrator deletes them."""
        if self.token() is not None:
            self.vault().drop_role(self._role(stack))


class VaultContainer:
    """Our own Vault on its host, as `secretstore.vault.setup` needs it: a `Place`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._host = access.host
        self._mark = f"{access.host.root}/host/{access.settings.roles.secrets}/claim"

    @property
    def address(self) -> str:
        return self._access.address

    def claimed(self) -> bool:
        return self._host.sh('[ -e "$1" ]', self._mark, check=False).code == 0

    def claim(self, on: bool) -> None:
        # Durable before anything relies on it: a claim that came back after a power cut would have good data wiped.
        script = 'mkdir -p "$(dirname "$1")" && : >"$1" && sync' if on else 'rm -f "$1" && sync'
        self._host.sh(script, self._mark)

    def wipe(self) -> None:
        image = str(self._access.section["image"])
        container = self._access.container
        self._host.docker("stop", container)
        # Its files are its user's own, so that user deletes them.
        words = (
            "run",
            "--rm",
            "--network",
            "none",
            "--cap-drop",
            "ALL",
            "-u",
            "100:1000",
            "--entrypoint",
            "/bin/sh",
        )
        script = "rm -rf /volume/* /volume/.[!.]*"
        self._host.docker(*words, "-v", f"{container}-data:/volume", image, "-c", script)
        self._host.docker("start", container)


def _unseen() -> str:
    """Why a message on standard error reaches nobody; empty if one can be written. A closed one is /dev/null by now."""
    try:
        os.write(2, b"\n")
        null = os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev
    except OSError as error:
        return error.strerror or str(error)
    return f"it goes to {os.devnull}" if null else ""
