"""This machine's package mirrors, for the builds: read from apt's and pip's own configuration, so no address is written here."""

from __future__ import annotations

import os
import re
import sys

from prefect_platform.errors import PreflightError
from prefect_platform.files import write_atomic

from .commands import attempt
from .layout import Layout

MIRROR_VARIABLE = "PREFECT_PLATFORM_LAB_MIRROR"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")


def debian() -> str:
    """The Debian mirror of apt on this machine. Raises PreflightError where there is none."""
    if named := os.environ.get(MIRROR_VARIABLE):
        return named
    _, out, _ = attempt(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    for line in out.splitlines():
        if re.search(r"/debian/?$", line):
            return line
    raise PreflightError(
        "lab: apt of this machine has no Debian mirror, needed to build the stand-in images",
        f"name one: {MIRROR_VARIABLE}=ADDRESS ./invoke lab.up",
    )


def build_words(layout: Layout) -> list[str]:
    """Options for `docker build`: proxies, and as secrets pip's configuration and the certificates that this machine trusts."""
    pip = layout.state / "pip.conf"
    write_atomic(pip, _pip_configuration().encode())
    words = ["--secret", f"id=pip,src={pip}"]
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or _CERTIFICATES
    if os.path.exists(certificates):
        words += ["--secret", f"id=certificates,src={certificates}"]
    for name in _PROXIES:
        if name in os.environ:
            words += ["--build-arg", name]
    return words


def _pip_configuration() -> str:
    """Without files on this machine's disk, which a build cannot see."""
    lines = ["[global]"]
    _, out, _ = attempt([sys.executable, "-m", "pip", "config", "list"])
    for line in out.splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        words = [
            word
            for word in value.strip("'\"").replace("\\n", " ").split()
            if not word.startswith(("file:", "/"))
        ]
        if option in _PIP_OPTIONS and words:
            lines.append(f"{option} = {' '.join(words)}")
    return "\n".join(lines) + "\n"
