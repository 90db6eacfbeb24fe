"""The tasks of `./invoke`. A plain `invoke` that finds this folder hands over to it: same environment, same output, same exit code.

Until the hand-over, only what any Python and any Invoke have: this file runs in foreign environments too.
"""

import os
import sys


def _loaded_by_plain_invoke() -> bool:
    """True if Invoke's own loader imports us, for a program other than the one that `./invoke` starts."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name == "prefect_platform.cli.program":
        return False
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == "invoke.loader":
            return True
    return False


if _loaded_by_plain_invoke():
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # None: it was closed when this Python started
                stream.flush()
        except OSError:
            pass  # nobody reads it, or its disk is full: the wrapper says so
    wrapper = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "invoke")
    os.execv("/bin/sh", ["sh", wrapper, *sys.argv[1:]])

from .root import namespace  # noqa: E402  # needs our environment

__all__ = ["namespace"]
