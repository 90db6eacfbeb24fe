"""Vault or OpenBao: its client, its set-up, and an environment's secrets in it."""

STACK, TOKEN = "vault", "OPERATOR_TOKEN"
"""Where a file store of this machine keeps the operator's token."""
