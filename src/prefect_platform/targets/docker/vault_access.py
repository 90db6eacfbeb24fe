"""The compose target's way to Vault: through the host when it is our own container."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from prefect_platform.config import images
from prefect_platform.config.settings import Settings
from prefect_platform.config.stack import Stack
from prefect_platform.errors import PreflightError
from prefect_platform.secretstore.file_store import FileStore
from prefect_platform.secretstore.store import Secret
from prefect_platform.targets.docker.agent import NETWORK

from . import agent
from .agent import CONTAINER
from .host import Host
from .tunnels import Tunnels

if TYPE_CHECKING:  # hvac is imported when Vault is asked: not every command does
    from prefect_platform.secretstore.vault import setup
    from prefect_platform.secretstore.vault.kv import Vault, VaultStore

_TOKEN = "OPERATOR_TOKEN"  # noqa: S105 - a name


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
        return Secret(given) if given else self.tokens.read("vault").get(_TOKEN)

    @property
    def address(self) -> str:
        """As this machine reaches it. Raises PreflightError when our container is not there."""
        return str(self.section["address"] or self._through_host())

    @property
    def _ca_cert(self) -> str | None:
        name = self.section["ca_cert"]
        return str(self.settings.root / name) if name else None

    def _through_host(self) -> str:
        return self._tunnels.to(CONTAINER, NETWORK, 8200, f"./invoke vault.setup --env {self.settings.env}")

    def vault(self, token: Secret | None = None) -> Vault:
        from prefect_platform.secretstore.vault.kv import Vault

        return Vault(self.address, token or self.token(), self.section["mount"], self._ca_cert)

    @cached_property
    def _store(self) -> VaultStore:
        from prefect_platform.secretstore.vault.kv import VaultStore

        return VaultStore(self.vault(), self.settings.env)

    def store(self) -> VaultStore:
        """The environment's secrets. Raises PreflightError without a token."""
        if self.token() is None:
            raise PreflightError(
                "no token for Vault",
                f"./invoke vault.setup --env {self.settings.env}, or give one: VAULT_TOKEN=… ./invoke …",
            )
        return self._store

    # -- Vault itself
    def is_new(self) -> bool:
        """Whether our own Vault has never run on this host."""
        own = not self.section["address"]
        return own and self.host.engine.container(CONTAINER) is None

    def set_up(self) -> tuple[str, ...]:
        """Initialise our own once and make it ready, or prove that another one is; returns what was changed."""
        from prefect_platform.secretstore.vault import setup

        work, own = self._work(), not self.section["address"]
        place = cast(setup.Place, _Place(self))
        report = setup.setup(work, place) if own else setup.verify(work, self.address)
        for notice in report.notices:
            self.say(f"note: {notice}")
        return report.changes

    def recover(self, keys: Sequence[str]) -> None:
        """A new operator's token from Vault's recovery keys."""
        from prefect_platform.secretstore.vault import setup

        setup.recover(self._work(), self.address, [Secret(key) for key in keys])

    def _work(self) -> setup.Setup:
        from prefect_platform.secretstore.vault.setup import Setup

        return Setup(
            store=self.tokens,
            journal=self.tokens.folder / "vault-keys.json",
            policy=self.settings.root / "vault" / "operator-policy.hcl",
            given=Secret(os.environ["VAULT_TOKEN"]) if os.environ.get("VAULT_TOKEN") else None,
            say=self.say,
            show=self._show,
            mount=self.section["mount"],
            ca_cert=self._ca_cert,
            keep_recovery_keys=self.section["keep_recovery_keys"],
        )

    def _show(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(line)

    # -- a stack's agent
    def admit(self, stack: Stack, folder: str, owner: str) -> None:
        """Policy, role, and the files the agent logs in with. They outlive every deploy; one that no longer works is replaced."""
        from prefect_platform.secretstore.vault.server import role_name

        name = role_name(self.settings.env, stack.name)
        vault = self.vault()
        sources = list(agent.sources(self.settings, stack))
        vault.ensure_policy(name, agent.render(self.settings, "policy.hcl.j2", name=name, paths=sources))
        vault.ensure_role(name, name)
        image = images.pinned(self.section["image"], images.read(self.settings.root))
        there = self.host.read_private(f"{folder}/approle", image)
        role_id, held = vault.role_id(name), Secret(there.get("secret-id", b"").decode())
        if there.get("role-id", b"").decode() == role_id and held.value and vault.secret_id_works(name, held):
            return
        self.say(f"giving the agent of {stack.name} its login")
        secret_id = vault.new_secret_id(name)
        files = {"role-id": role_id.encode(), "secret-id": secret_id.value.encode()}
        self.host.lay_private(f"{folder}/approle", files, owner, image)
        vault.drop_other_secret_ids(name, secret_id)

    def dismiss(self, stack: Stack) -> None:
        """Take the agent's login and policy away; the values stay in Vault, where only an administrator deletes them."""
        from prefect_platform.secretstore.vault.server import role_name

        if self.token() is not None:
            self.vault().drop_role(role_name(self.settings.env, stack.name))


class _Place:
    """Our own Vault on its host, as vault_setup needs it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._host = access.host
        self._mark = f"{access.host.root}/host/vault/claim"

    @property
    def address(self) -> str:
        return self._access.address

    def claimed(self) -> bool:
        return self._host.sh('[ -e "$1" ]', self._mark, check=False).code == 0

    def claim(self, on: bool) -> None:
        # On disk before anybody relies on it: a claim that came back after a power cut would have good data wiped.
        script = 'mkdir -p "$(dirname "$1")" && : >"$1" && sync' if on else 'rm -f "$1" && sync'
        self._host.sh(script, self._mark)

    def wipe(self) -> None:
        image = str(self._access.section["image"])
        self._host.docker("stop", CONTAINER)
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
        self._host.docker(*words, "-v", f"{CONTAINER}-data:/volume", image, "-c", script)
        self._host.docker("start", CONTAINER)
