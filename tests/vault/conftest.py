"""A Vault that was set up, for the tests of one module; and empty ones for those that set it up themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from prefect_platform.config.stack import SecretSpec, Stack
from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault, VaultStore, role_name
from prefect_platform.secretstore.vault.setup import setup

from .bao import ROOT, Agent, Server, free_port, render, work

ENV = "production"
MakeAgent = Callable[..., Agent]


@dataclass
class Ready:
    """A server that is set up, and the operator's token for it."""

    server: Server
    folder: Path
    token: Secret

    @property
    def vault(self) -> Vault:
        return Vault(self.server.address, self.token)

    def root(self, mount: str = "secret") -> Vault:
        """With a token that may do everything, made with the recovery keys as an administrator does."""
        return Vault(self.server.address, self._root, mount)

    @cached_property
    def _root(self) -> Secret:
        keys = json.loads((self.folder / "operator" / "vault-keys.json").read_text())
        return self.vault.generate_root([Secret(key) for key in keys["recovery_keys"][: keys["threshold"]]])

    def store(self, env: str = ENV) -> VaultStore:
        return VaultStore(self.vault, env)


def make_stack(name: str, *secrets: SecretSpec) -> Stack:
    return Stack(name, Path(name), "a stack", name, (), (), secrets, {})


def sources(stack: Stack, env: str = ENV) -> dict[str, dict[str, str]]:
    """As the agent's template wants them: path → name of the variable → key."""
    found: dict[str, dict[str, str]] = {}
    for spec in stack.secrets:
        owner, _, key = spec.source.partition("/")
        found.setdefault(f"secret/data/platform/{env}/{owner or stack.name}", {})[spec.name] = (
            key or spec.name
        )
    return found


def admit(vault: Vault, stack: Stack, env: str = ENV) -> str:
    """Policy and role of a stack; returns their name."""
    name = role_name(env, stack.name)
    vault.ensure_policy(
        name, render(ROOT / "vault" / "policy.hcl.j2", name=name, paths=list(sources(stack, env)))
    )
    vault.ensure_role(name, name)
    return name


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A started server that was never initialised."""
    folder = tmp_path / "server"
    folder.mkdir()
    each = Server(folder, free_port())
    each.start()
    yield each
    each.stop()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    folder = tmp_path_factory.mktemp("vault")
    (folder / "server").mkdir()
    each = Server(folder / "server", free_port())
    each.start()
    try:
        operator = work(folder / "operator", keep_recovery_keys=True)
        setup(operator, each)
        assert operator.token
        yield Ready(each, folder, operator.token)
    finally:
        each.stop()


@pytest.fixture
def make_agent(ready: Ready, tmp_path: Path) -> Iterator[MakeAgent]:
    """Started agents of a stack, ended with the test."""
    agents: list[Agent] = []

    def make(stack: Stack, values: Mapping[str, str] | None = None, *, start: bool = True) -> Agent:
        name = admit(ready.vault, stack)
        if values:
            ready.store().merge(stack.name, values)
        agent = Agent(tmp_path / f"agent{len(agents)}", ready.server.address, sources(stack))
        agents.append(agent)
        agent.admit(ready.vault, name)
        if start:
            agent.start()
        return agent

    yield make
    for agent in agents:
        agent.stop()
