#!/bin/sh
# Becomes the process that needs secrets: waits for the file that holds them, loads it, execs.
#   SECRETS_FILE         shell-quoted KEY='value' lines, readable by this user
#   SECRETS_WATCH        seconds between two looks at that file; when its content is another, the process gets a signal, and whoever
#                        supervises it starts it anew with the new values. 0 or unset: nobody looks
#   SECRETS_STOP_SIGNAL  that signal (TERM)
#   SECRETS_ON_CHANGE    a command that runs before, with the new values in its environment and the old file on standard input; until it
#                        succeeds the process goes on with what it has
# Waiting matters after a reboot, when nothing orders the start of processes; exec keeps the pid, so signals reach the program.
# Plain POSIX sh, for dash and busybox, with cat, id and sleep: the official images have little more.
set -eu
: "${SECRETS_FILE:=/vault/secrets/.env}"

wait_for_file() {
    # A shell that is process 1 ignores a signal that it does not trap, and `docker stop` would have to wait and kill.
    trap 'exit 143' TERM INT
    waited=0
    until [ -r "$SECRETS_FILE" ]; do
        if [ $((waited % 30)) -eq 0 ]; then
            why=
            [ ! -e "$SECRETS_FILE" ] || why=": it is there, but user $(id -u) may not read it"
            echo "waiting for secrets in $SECRETS_FILE$why" >&2
        fi
        waited=$((waited + 1))
        sleep 1
    done
    trap - TERM INT
}

# Ends the process $1 when the file no longer holds what was loaded. A file that is away says nothing: its volume may be gone with
# a host that shuts down. The comparison is the shell's own, so no value becomes an argument of a program.
watch() {
    while sleep "$SECRETS_WATCH"; do
        kill -0 "$1" 2>/dev/null || exit 0
        [ -r "$SECRETS_FILE" ] || continue
        now=$(cat "$SECRETS_FILE") || continue
        if [ -n "$now" ] && [ "$now" != "$loaded" ]; then
            prepare || continue
            echo "secrets in $SECRETS_FILE changed: ending process $1 with SIG${SECRETS_STOP_SIGNAL:-TERM}" >&2
            kill -s "${SECRETS_STOP_SIGNAL:-TERM}" "$1"
            exit 0
        fi
    done
}

prepare() {
    [ -n "${SECRETS_ON_CHANGE:-}" ] || return 0
    printf '%s\n' "$loaded" | (
        set -a
        eval "$now"
        set +a
        exec /bin/sh -c "$SECRETS_ON_CHANGE"
    )
}

wait_for_file
loaded=$(cat "$SECRETS_FILE")
# What comes into a container from outside (`docker exec`, a health check) has no parent there: such a short-lived one is not watched.
if [ "${SECRETS_WATCH:-0}" != 0 ] && { [ "$PPID" -ne 0 ] || [ "$$" -eq 1 ]; }; then
    # Started before the values are exported: its own children have none of them in their environment. And as a grandchild:
    # a program that waits for all its children (PostgreSQL takes an unknown one's death for a crash) never meets it.
    (watch "$$" &)
fi
set -a
eval "$loaded"
set +a
exec "$@"
