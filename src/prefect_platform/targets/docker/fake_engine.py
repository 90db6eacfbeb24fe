"""The few answers of a Docker engine's API that Engine asks for, from what a test says that there is. Speaks HTTP on a socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = Mapping[str, Any]


class FakeEngine:
    """`containers` as `docker inspect` shows them; networks and volumes: name → labels; `images`: name → `docker image inspect`."""

    def __init__(self) -> None:
        self.containers: list[Json] = []
        self.networks: dict[str, Mapping[str, str]] = {}
        self.volumes: dict[str, Mapping[str, str]] = {}
        self.images: dict[str, Json] = {}
        self.asked: list[str] = []
        """Paths of all requests, without the API's version."""
        self.broken = ""
        """What it answers every question with, when it fails."""

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return ours

    def answer(self, path: str, filters: Mapping[str, list[str]]) -> Any:
        """What a GET returns; None is a 404. Raises AssertionError for a path that no engine of ours is asked for."""
        self.asked.append(path)
        if self.broken:
            raise AssertionError(self.broken)
        kind, _, rest = path.strip("/").partition("/")
        name, labels = unquote(rest.removesuffix("/json")), filters.get("label", [])
        if (kind, rest) == ("version", ""):
            return {"ApiVersion": "1.47"}
        if (kind, rest) == ("containers", "json"):
            return [{"Id": _id(each)} for each in self.containers if _fit(each["Config"]["Labels"], labels)]
        if kind == "containers":
            return next((each for each in self.containers if name in (_id(each), each["Name"][1:])), None)
        if kind == "images":
            return self.images.get(name)
        if (kind, rest) == ("volumes", ""):
            return {"Volumes": _named(self.volumes, labels)}
        if kind == "volumes":
            return {"Name": name} if name in self.volumes else None
        if kind == "networks":
            return (
                next(iter(_named({name: {}}, [])), None)
                if name in self.networks
                else (None if name else _named(self.networks, labels))
            )
        raise AssertionError(f"no answer for: GET {path}")

    def _serve(self, connection: socket.socket) -> None:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                path = (
                    "/" + url.path.lstrip("/").partition("/")[2] if url.path.startswith("/v1.") else url.path
                )
                query = parse_qs(url.query)
                try:
                    found = engine.answer(path, json.loads(query.get("filters", ["{}"])[0]))
                    code = 404 if found is None else 200
                except AssertionError as error:
                    code, found = 500, {"message": str(error)}
                body = json.dumps(found or ({"message": "not found"} if code == 404 else found)).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        with connection:
            Handler(connection, ("", 0), None)  # type: ignore[arg-type]


def _id(container: Json) -> str:
    return str(container.get("Id") or container["Name"][1:])


def _fit(labels: Mapping[str, str], wanted: list[str]) -> bool:
    return all(each in [*labels, *(f"{name}={value}" for name, value in labels.items())] for each in wanted)


def _named(found: Mapping[str, Mapping[str, str]], wanted: list[str]) -> list[Json]:
    return [{"Name": name, "Labels": labels} for name, labels in found.items() if _fit(labels, wanted)]
