"""Vault or OpenBao: its client, its set-up, and an environment's secrets in it."""
