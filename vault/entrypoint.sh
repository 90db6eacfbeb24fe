#!/bin/sh
# Becomes the process that needs secrets: waits for the file that holds them, loads it, execs.
#   SECRETS_FILE   shell-quoted KEY='value' lines, readable by this user alone
# Waiting matters after a reboot, when nothing orders the start of processes; exec keeps the pid, so signals reach the program.
set -eu
: "${SECRETS_FILE:=/vault/secrets/.env}"
waited=0
until [ -r "$SECRETS_FILE" ]; do
    [ $((waited % 30)) -ne 0 ] || echo "waiting for secrets in $SECRETS_FILE" >&2
    waited=$((waited + 1))
    sleep 1
done
set -a
# shellcheck disable=SC1090
. "$SECRETS_FILE"
set +a
exec "$@"
