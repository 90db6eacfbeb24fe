"""vault.setup in a process of its own that ends by SIGKILL right after its n-th effect: what the effect did stands, what follows does not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hvac.adapters import Adapter

from prefect_platform.secretstore import file_store
from prefect_platform.secretstore.vault import journal, setup

from .bao import Server, work


class Killer:
    """Counts effects."""

    def __init__(self, step: int) -> None:
        self.left = step

    def counted(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            result = effect(*args, **options)
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped


def main(server_folder: str, port: str, folder: str, step: str) -> None:
    killer = Killer(int(step))
    server = Server(Path(server_folder), int(port))
    operator = work(Path(folder))
    for place, name in (
        (Adapter, "post"),
        (Adapter, "put"),
        (server, "claim"),
        (server, "wipe"),
        (journal, "write_atomic"),
        (file_store, "write_atomic"),
        (Path, "unlink"),
    ):
        setattr(place, name, killer.counted(getattr(place, name)))
    marked = type(operator)(**{**operator.__dict__, "show": lambda lines: (Path(folder) / "shown").touch()})
    setup.setup(marked, server)


if __name__ == "__main__":
    main(*sys.argv[1:])
