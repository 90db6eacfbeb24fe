"""The host's Docker engine, observed by the Docker SDK over our own connection to the host. What changes it is `docker` on the host.

`docker system dial-stdio` joins a command's standard input and output to the engine's socket: through it the operator's ssh
configuration, the multiplexed connection and sudo count, and one process on the host serves every question of a run.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prefect_platform.errors import PlatformError

if TYPE_CHECKING:  # imported when an engine is used: not every command does
    from docker.api.client import APIClient

_BASE = "http://engine:2375"
_OLDEST = "1.44"
"""API of Docker 25, for the one question which version the engine speaks."""
_SECONDS = 60
Json = dict[str, Any]


class Engine:
    """Answers about containers, networks, volumes, images. Raises PlatformError when the engine does not answer."""

    def __init__(self, place: str, connect: Callable[[], socket.socket], explain: Callable[[], None]) -> None:
        """`explain` raises the cause of an engine that does not answer, where it can be found out."""
        self.place = place
        self._connect = connect
        self._explain = explain
        self._opening = threading.Lock()

    def open(self) -> None:
        """Connect, where the first question would. What fails is raised by that."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        with contextlib.suppress(DockerException, RequestException, OSError):
            self._client  # noqa: B018

    @property
    def answers(self) -> bool:
        """Whether it has answered already."""
        return "_opened" in vars(self)

    @property
    def _client(self) -> APIClient:
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> APIClient:
        from docker.api.client import APIClient

        from .engine_transport import Adapter

        adapter = Adapter(self._connect, _SECONDS)

        def client(version: str) -> APIClient:
            made = APIClient(_BASE, version=version, timeout=_SECONDS)
            made.trust_env = False
            made.mount(_BASE, adapter)
            return made

        return client(str(client(_OLDEST).version(api_version=False)["ApiVersion"]))

    def containers(self, labels: Mapping[str, str]) -> list[Json]:
        """Every container with these labels, running or not, as `docker inspect` shows it."""
        listed = self._ask(lambda it: it.containers(all=True, filters={"label": _filters(labels)})) or []
        found = (self.container(each["Id"]) for each in listed)
        return [each for each in found if each]

    def container(self, name: str) -> Json | None:
        return _found(self._ask(lambda it: it.inspect_container(name)))

    def image(self, name: str) -> Json | None:
        return _found(self._ask(lambda it: it.inspect_image(name)))  # type: ignore[no-untyped-call]

    def network(self, name: str) -> Json | None:
        return _found(self._ask(lambda it: it.inspect_network(name)))

    def volume(self, name: str) -> Json | None:
        return _found(self._ask(lambda client: client.inspect_volume(name)))

    def networks(self, labels: Mapping[str, str]) -> list[str]:
        """Names, sorted."""
        found = self._ask(lambda it: it.networks(filters={"label": _filters(labels)})) or []
        return sorted(each["Name"] for each in found)

    def volumes(self, labels: Mapping[str, str]) -> list[str]:
        """Names, sorted."""
        found = self._ask(lambda it: it.volumes(filters={"label": _filters(labels)})) or {}
        return sorted(each["Name"] for each in found.get("Volumes") or ())

    def _ask(self, question: Callable[[APIClient], Any]) -> Any:
        """The engine's answer; None for what does not exist."""
        from docker.errors import DockerException, NotFound
        from requests.exceptions import RequestException

        try:
            return question(self._client)
        except NotFound:
            return None
        except (DockerException, RequestException, OSError) as error:
            self._explain()
            raise PlatformError(
                f"{self.place}: the Docker engine does not answer: {error}",
                "see what it says on the host: systemctl status docker",
            ) from None


def _found(answer: Any) -> Json | None:
    return None if answer is None else dict(answer)


def _filters(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" if value else name for name, value in labels.items()]
