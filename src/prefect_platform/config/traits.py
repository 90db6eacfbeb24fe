"""What differs between targets, as a value. Settings and rules ask it and never a target's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Topology = Literal["combined", "split"]
"""`combined`: all stacks are processes of one machine. `split`: each stack runs in containers of its own."""


@dataclass(frozen=True)
class Traits:
    """One target's. `provided_url` is the address that its provider gives it, as a format of the settings' sections."""

    name: str
    topology: Topology
    vault: bool = False
    """Secrets come from Vault, through an agent beside each stack."""
    postgres: bool = False
    """The environment has a shared PostgreSQL of its own."""
    tls: bool = False
    """Our Traefik terminates TLS: `platform.traefik.tls` and its siblings apply."""
    sso: bool = False
    """People can sign in with Authentik."""
    shared_host: bool = False
    """Environments share one host, and the stacks of `scope: host` on it."""
    private_network: bool = False
    """Apps of one organisation reach each other without a gateway."""
    replica: bool = False
    """SQLite on its volume can be copied to an object store."""
    provided_url: str = ""

    @property
    def combined(self) -> bool:
        return self.topology == "combined"
