#!/usr/bin/env bash
# Keeps the official entrypoint's contract: ~/.bashrc, EXTRA_PIP_PACKAGES, a shell without arguments, else the command as it is.
set -o errexit

if [ -f "$HOME/.bashrc" ]; then
    # shellcheck disable=SC1091
    . "$HOME/.bashrc"
fi
if [ -n "${EXTRA_PIP_PACKAGES:-}" ]; then
    echo "+uv pip install $EXTRA_PIP_PACKAGES"
    # shellcheck disable=SC2086  # a list of words, as the official image takes it
    uv pip install $EXTRA_PIP_PACKAGES >/tmp/pip_install.log 2>&1 || {
        code=$?
        cat /tmp/pip_install.log
        exit "$code"
    }
fi
if [ $# -eq 0 ]; then
    echo "prefecthq/prefect, lab stand-in"
    exec bash --login
fi
exec "$@"
