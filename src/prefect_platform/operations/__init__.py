"""The use cases, each a file."""
