#!/usr/bin/dumb-init /bin/sh
# shellcheck shell=dash
# Keeps the official entrypoint's contract: dev and configuration flags for `server`, subcommands go to bao, other commands run
# as they are; folders that another uid owns are taken over unless SKIP_CHOWN; root hands over unless BAO_SKIP_DROP_ROOT.
set -e
ulimit -c 0

address_of() {
    ip -o -4 addr show dev "$1" | sed -n 's|.* inet \([0-9.]*\)/.*|\1|p' | head -n 1
}

if [ -n "${BAO_REDIRECT_INTERFACE:-}" ]; then
    BAO_REDIRECT_ADDR="http://$(address_of "$BAO_REDIRECT_INTERFACE"):8200"
    export BAO_REDIRECT_ADDR
fi
if [ -n "${BAO_CLUSTER_INTERFACE:-}" ]; then
    BAO_CLUSTER_ADDR="https://$(address_of "$BAO_CLUSTER_INTERFACE"):8201"
    export BAO_CLUSTER_ADDR
fi
if [ -n "${BAO_LOCAL_CONFIG:-}" ]; then
    echo "$BAO_LOCAL_CONFIG" >/openbao/config/local.json
fi

case ${1:-} in -*) set -- bao "$@" ;; esac
if [ "${1:-}" = server ]; then
    shift
    set -- bao server -config=/openbao/config -dev-root-token-id="${BAO_DEV_ROOT_TOKEN_ID:-}" \
        -dev-listen-address="${BAO_DEV_LISTEN_ADDRESS:-0.0.0.0:8200}" "$@"
elif [ "${1:-}" = version ] || bao --help "${1:-}" 2>&1 | grep -q "bao ${1:-}"; then
    set -- bao "$@"
fi

owner_differs() {
    [ "$(stat -c %u "$1")" != "$(id -u openbao)" ]
}

if [ "${1:-}" = bao ]; then
    if [ -z "${SKIP_CHOWN:-}" ]; then
        if owner_differs /openbao/config; then
            chown -R openbao:openbao /openbao/config || echo "could not chown /openbao/config"
        fi
        for folder in /openbao/logs /openbao/file; do
            if owner_differs "$folder"; then
                chown -R openbao:openbao "$folder"
            fi
        done
    fi
    if [ "$(id -u)" = 0 ] && [ -z "${BAO_SKIP_DROP_ROOT:-}" ]; then
        set -- su-exec openbao "$@"
    fi
fi
exec "$@"
