"""Uptime monitors elsewhere: somebody who is not this host asks whether Prefect is there."""
