"""A host with Docker Compose, over SSH."""
