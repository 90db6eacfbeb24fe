"""Prefect's API as the probes of one look ask it: what two of them list is asked once."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from prefect_platform.provisioning.prefect.api import Json, PrefectApi


class OneLook(PrefectApi):
    """For probes that run at the same time, in threads; not for what changes anything."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._listed: dict[str, Future[list[Json]]] = {}
        self._listing = threading.Lock()

    def _pages(self, path: str, body: Mapping[str, Any]) -> list[Json]:
        question = f"{path} {json.dumps(body, sort_keys=True)}"
        with self._listing:
            first = question not in self._listed
            answer = self._listed.setdefault(question, Future())
        if first:
            try:
                answer.set_result(super()._pages(path, body))
            except BaseException as error:
                answer.set_exception(error)  # whoever waits for it must not wait for ever
                raise
        return answer.result()
