"""Where uv gets packages from: pip's settings (index, files, certificates, proxy) as uv's, which reads none of them itself.

Standard library only, like `venvs`.
"""

from __future__ import annotations

import ast
import contextlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ONLY_PIP = ("client-cert", "keyring-provider")
"""Settings without an equivalent in uv."""


@dataclass(frozen=True)
class IndexSettings:
    """Options and variables for `uv pip install`. What may hold a password is a variable: `ps` shows options to everyone."""

    options: tuple[str, ...]
    environ: Mapping[str, str]


def for_uv(pip: Mapping[str, str], environ: Mapping[str, str]) -> IndexSettings | None:
    """pip's settings as uv's; None if uv cannot do what they say. `environ` has the variables that pip's HTTP client reads."""
    if any(pip.get(name) for name in _ONLY_PIP):
        return None
    proxy = pip.get("proxy", "")
    cert = pip.get("cert") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or ""
    variables = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(_sources(pip.get("find-links", ""))),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout", ""),
        "UV_HTTP_RETRIES": pip.get("retries", ""),
        "SSL_CERT_DIR" if os.path.isdir(cert) else "SSL_CERT_FILE": cert,
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
    }
    options = ["--no-index"] if is_true(pip.get("no-index", "")) else []
    # The system's certificates, as pip uses them, where it has any; else uv's own.
    if not cert and ssl.get_default_verify_paths().cafile:
        options.append("--system-certs")
    return IndexSettings(tuple(options), {name: value for name, value in variables.items() if value})


def _sources(links: str) -> list[str]:
    """Without local folders that do not exist: pip only warns of them, uv refuses."""
    return [place for place in links.split() if "://" in place or Path(place).exists()]


def read(listing: str) -> dict[str, str]:
    """Settings from the output of `pip config list`. `[install]` overrides `[global]`, a variable both; empty values count as unset."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, setting = name.rpartition(".")
        with contextlib.suppress(ValueError, SyntaxError):
            text = str(ast.literal_eval(value))
            if section in found and text.strip():
                found[section][setting] = text
    return found["global"] | found["install"] | found[":env:"]


def may_cache(pip: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Whether uv may use its own cache folder, by pip's rules for its own: not with `no-cache-dir`, and root writes only into what is
    root's, so that `sudo` leaves no files of root's in a user's home.
    """
    if is_true(pip.get("no-cache-dir", "")):
        return False
    home = environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.abspath(environ.get("UV_CACHE_DIR") or os.path.join(home, "uv"))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return os.stat(folder).st_uid == 0 if os.geteuid() == 0 else os.access(folder, os.W_OK | os.X_OK)


def is_true(text: str) -> bool:
    """As pip reads a switch."""
    return text.strip().lower() in ("1", "true", "yes", "on", "y", "t")
