#!/bin/sh
# Keeps the official entrypoint's contract: options alone go to redis-server, root hands over to redis if it may, umask 0077.
set -e

if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- redis-server "$@"
fi

# Bits 6 and 7 of the bounding set: SETGID and SETUID.
may_drop() {
    bounding=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
    [ $((0x$bounding >> 6 & 3)) -eq 3 ]
}

only_ours() {
    [ -z "$(find /data -mindepth 1 -maxdepth 1 ! -name '*.rdb' ! -name appendonlydir -print -quit)" ]
}

program=$(command -v "$1" || true)
case $program in
    /usr/local/bin/redis-server | /usr/local/bin/redis-sentinel)
        # Debian compiles protected mode in, the official image compiles it out: put first, so that the caller's options win.
        if [ "$program" = /usr/local/bin/redis-server ]; then
            shift
            case ${1:-} in
                -h | --help | -v | --version | --test-memory | --check-system) set -- redis-server "$@" ;;
                "" | -*) set -- redis-server --protected-mode no "$@" ;;
                *)
                    configuration=$1
                    shift
                    set -- redis-server "$configuration" --protected-mode no "$@"
                    ;;
            esac
        fi
        if [ "$(id -u)" = 0 ] && [ -z "${SKIP_DROP_PRIVS:-}" ] && may_drop; then
            if [ -z "${SKIP_FIX_PERMS:-}" ] && only_ours; then
                find /data ! -user redis -exec chown redis:redis {} + || true
            fi
            set -- setpriv --reuid redis --regid redis --clear-groups --bounding-set -all --inh-caps -all --no-new-privs "$@"
        fi
        ;;
esac
[ "$(umask)" != 0022 ] || umask 0077
exec "$@"
