#!/bin/sh
# Keeps the official entrypoint's contract: options alone and subcommands go to traefik, other commands run as they are.
set -e

if [ "${1#-}" != "$1" ]; then
    set -- traefik "$@"
fi
if traefik "$1" --help >/dev/null 2>&1; then
    set -- traefik "$@"
else
    echo "= '$1' is not a Traefik command: assuming shell execution." >&2
fi
exec "$@"
