"""The list of what a token of scope prefect:read may ask, against the API of the Prefect that is installed."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from prefect_platform.gateway.reading import ROUTES, only_reads

from .conftest import runtime_python

API = """
import inspect, json
from prefect.server.api import server
changing = [
    [method, route.path]
    for router in server.API_ROUTERS for route in router.routes if hasattr(route, "endpoint")
    for method in getattr(route, "methods", None) or ()
    if "begin_transaction=True" in inspect.getsource(route.endpoint)
]
print(json.dumps({"paths": server.create_api_app().openapi()["paths"], "changing": changing}))
"""
ID = "0c1d2e3f-0123-4567-89ab-0123456789ab"
READS = {
    *("filter", "count", "paginate", "history", "lateness", "concurrency_status"),
    *("{countable}", "count-deployments", "count-task-runs", "next-runs", "counts"),
}
"""The last part of a POST that only reads."""
SECRETS = {"POST /block_documents/filter", "GET /admin/settings"}
"""Read, and may give out secrets: the first if its body asks for them."""
ONLY_READ = {
    "GET /csrf-token",  # makes a token for the client that asks, without which that could not POST its filters
    "GET /work_pools/{work_pool_name}/queues/{name}",
    "POST /ui/task_runs/count",
    "POST /ui/task_runs/dashboard/counts",
}
"""Opens a transaction in Prefect 3.8.8, but changes nothing that belongs to another."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    env = {"PREFECT_HOME": str(tmp_path_factory.mktemp("home")), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([runtime_python(), "-c", API], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _short(method: str, path: str, operation: dict[str, Any]) -> str:
    """As our list has it: `#` for a UUID, `*` for another segment."""
    ids = {
        each["name"]
        for each in operation.get("parameters", [])
        if each["in"] == "path" and each["schema"].get("format") == "uuid"
    }
    return f"{method} {re.sub('{([^}]*)}', lambda name: '#' if name[1] in ids else '*', path)}"


def test_the_list_is_what_reads_of_prefects_own_api(api: dict[str, Any]) -> None:
    """A Prefect that has another route, or lacks one, is looked at before the list follows it."""
    reading = {
        _short(method.upper(), path, operation)
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
        if method == "get" or (method == "post" and path.rpartition("/")[2] in READS)
    }
    assert {*ROUTES.split("\n")} - {""} == reading - SECRETS


def test_nothing_else_of_prefects_api_is_let_through(api: dict[str, Any]) -> None:
    listed, passed = {*ROUTES.split("\n")}, set()
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            short = _short(method.upper(), path, operation)
            place = short.partition(" ")[2].replace("#", ID).replace("*", "name")
            told = {"x-forwarded-method": method.upper(), "x-forwarded-uri": f"/prefect/api{place}"}
            if only_reads(told, "/prefect/"):
                passed.add(short)
    assert passed == listed - {""}


def test_what_is_listed_changes_nothing(api: dict[str, Any]) -> None:
    changing = {f"{method} {path}" for method, path in api["changing"]}
    assert len(changing) > 50, "seen at all"
    listed = {
        f"{method.upper()} {path}"
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
        if _short(method.upper(), path, operation) in ROUTES.split("\n")
    }
    assert listed & changing <= ONLY_READ
