"""Checks through the public route and of the machine."""
