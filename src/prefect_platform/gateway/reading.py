"""What a token of scope `prefect:read` may ask of Prefect's API, pure.

A list of what is allowed, so that a route which a newer Prefect adds is refused until it is listed here. tests/runtime/test_reading.py
compares the list with the API of the Prefect that is installed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

SCOPE = "prefect:read"
WHOLE = "prefect"
"""The scope of which it is a part."""

# Prefect 3.8.8. `#` stands for a UUID, `*` for any one segment. Two that read are left out: POST /block_documents/filter, whose body, which
# no verifier sees, may ask for the secrets; and GET /admin/settings, where another Prefect than ours may show passwords in URLs.
ROUTES = """
GET /admin/storage
GET /admin/version
POST /artifacts/count
POST /artifacts/filter
POST /artifacts/latest/count
POST /artifacts/latest/filter
GET /artifacts/#
GET /artifacts/*/latest
POST /automations/count
POST /automations/filter
GET /automations/related-to/*
GET /automations/#
GET /block_capabilities/
POST /block_documents/count
GET /block_documents/#
GET /block_schemas/checksum/*
POST /block_schemas/filter
GET /block_schemas/#
POST /block_types/filter
GET /block_types/slug/*
GET /block_types/slug/*/block_documents
GET /block_types/slug/*/block_documents/name/*
GET /block_types/#
GET /collections/views/*
POST /concurrency_limits/filter
GET /concurrency_limits/tag/*
GET /concurrency_limits/#
GET /csrf-token
POST /deployments/count
POST /deployments/filter
GET /deployments/name/*/*
POST /deployments/paginate
GET /deployments/#
GET /deployments/#/schedules
GET /deployments/#/work_queue_check
POST /events/count-by/*
POST /events/filter
GET /events/filter/next
GET /flow_run_states/
GET /flow_run_states/#
POST /flow_runs/count
POST /flow_runs/filter
POST /flow_runs/history
POST /flow_runs/lateness
POST /flow_runs/paginate
GET /flow_runs/#
GET /flow_runs/#/graph
GET /flow_runs/#/graph-v2
POST /flow_runs/#/input/filter
GET /flow_runs/#/input/*
GET /flow_runs/#/logs/download
POST /flows/count
POST /flows/filter
GET /flows/name/*
POST /flows/paginate
GET /flows/#
GET /health
GET /hello
POST /logs/filter
GET /ready
POST /saved_searches/filter
GET /saved_searches/#
GET /task_run_states/
GET /task_run_states/#
POST /task_runs/count
POST /task_runs/filter
POST /task_runs/history
POST /task_runs/paginate
GET /task_runs/#
POST /task_workers/filter
POST /ui/flow_runs/count-task-runs
POST /ui/flow_runs/history
POST /ui/flows/count-deployments
POST /ui/flows/next-runs
POST /ui/task_runs/count
POST /ui/task_runs/dashboard/counts
GET /ui/task_runs/#
POST /v2/concurrency_limits/filter
GET /v2/concurrency_limits/*
POST /variables/count
POST /variables/filter
GET /variables/name/*
GET /variables/#
GET /version
POST /work_pools/count
POST /work_pools/filter
GET /work_pools/*
POST /work_pools/*/concurrency_status
POST /work_pools/*/queues/filter
GET /work_pools/*/queues/*
POST /work_pools/*/workers/filter
POST /work_queues/filter
GET /work_queues/name/*
GET /work_queues/#
POST /work_queues/#/concurrency_status
GET /work_queues/#/status
"""
_SECRETS = "include_secrets"
"""The query parameter with which Prefect gives out the secrets of blocks."""
_UUID = "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"


def _pattern(routes: str) -> re.Pattern[str]:
    lines = (
        re.escape(line).replace(r"\*", "[^/]+").replace(r"\#", _UUID) for line in routes.split("\n") if line
    )
    return re.compile("|".join(lines))


_ALLOWED = _pattern(ROUTES)


def only_reads(headers: Mapping[str, str], home_path: str) -> bool:
    """Whether the request that Traefik's ForwardAuth describes is one of these; `home_path` is where Prefect is served."""
    path, _, query = headers.get("x-forwarded-uri", "").partition("?")
    prefix = f"{home_path.rstrip('/')}/api/"
    if not path.startswith(prefix) or _SECRETS in dict(parse_qsl(query, keep_blank_values=True)):
        return False
    segments = [unquote(each) for each in path.removeprefix(prefix).split("/")]
    if not all(map(_plain, segments)):
        return False
    method = headers.get("x-forwarded-method", "")
    return _ALLOWED.fullmatch(f"{method} /{'/'.join(segments)}") is not None


def _plain(segment: str) -> bool:
    """Whether the segment stays one when Prefect decodes the path, which it does before it looks for the route."""
    return segment.isprintable() and segment not in (".", "..") and not set(segment) & {"/", "\\"}
