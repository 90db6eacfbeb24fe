"""This machine, without Docker."""
