"""A flyctl for tests: `python -m prefect_platform_lab.standins.flyctl WORDS…`. Not part of any deployment.

Shapes, messages and exit codes are those of flyctl's source (2026-08, fly-go 0.9.6). Fly's side of it is one JSON file; an image is built and the machine
runs in a Docker engine, with the machine's memory, its volume, its secrets in the environment and no way out. It understands what the platform calls; everything
else is an error, and so is a prompt: it runs unattended.

    FLY_STANDIN         folder of its state (`fly.json`), its log of calls (`calls.jsonl`: words, never what came by stdin) and `faults.json`
    DOCKER_HOST         the engine; FLY_STANDIN_PORT: the port on 127.0.0.1 where the edge listens
    FLY_STANDIN_PATIENCE  seconds that a deploy waits for the health check (150)
"""

from __future__ import annotations

from pathlib import Path

LABEL = "prefect-platform.fly-standin"
"""Of all that it makes in the engine."""
SCHEMA = Path(__file__).with_name("fly_toml.schema.yml")
EMPTY = {"apps": {}, "taken": ["taken-by-somebody"], "login": True}
"""Fly's side before anything was done."""
