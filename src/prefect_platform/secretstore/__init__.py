"""Where an environment's secrets are kept: a file, or Vault."""
