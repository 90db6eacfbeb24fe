"""What every test relies on."""

from __future__ import annotations

import signal

# A runner that starts us in the background (`&`, nohup) leaves SIGINT ignored, and all that we start would inherit that: no Ctrl-C
# would reach it. A handler, unlike "ignored", is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
