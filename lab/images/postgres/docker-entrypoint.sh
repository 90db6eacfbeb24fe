#!/usr/bin/env bash
# Keeps the official entrypoint's contract: `_FILE` variables, root hands over to postgres, first start runs initdb and
# /docker-entrypoint-initdb.d against a server that only the Unix socket reaches.
set -Eeo pipefail

fail() {
    echo "Error: $*" >&2
    exit 1
}

# NAME [DEFAULT]: the value of NAME, or the content of the file that NAME_FILE names.
from_file() {
    local name=$1 file=${1}_FILE
    [ -z "${!name:-}" ] || [ -z "${!file:-}" ] || fail "both $name and $file are set (but are exclusive)"
    local value=${!name:-${2:-}}
    [ -z "${!file:-}" ] || value=$(<"${!file}")
    export "$name=$value"
    unset "$file"
}

as_superuser() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc --username "$POSTGRES_USER" "$@"
}

make_folders() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA" || :
    chmod 3775 /var/run/postgresql || :
    if [ "$(id -u)" = 0 ]; then
        find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    fi
}

init_database() {
    [ -n "$POSTGRES_PASSWORD" ] || [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ] ||
        fail 'Database is uninitialized and superuser password is not specified: POSTGRES_PASSWORD or POSTGRES_HOST_AUTH_METHOD=trust'
    # shellcheck disable=SC2086  # a list of words
    eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"$POSTGRES_INITDB_ARGS"
    local method=${POSTGRES_HOST_AUTH_METHOD:-}
    [ -n "$method" ] || method=$(postgres -C password_encryption)
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

run_init_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh)
                echo "$0: running $file"
                # shellcheck disable=SC1090
                if [ -x "$file" ]; then "$file"; else . "$file"; fi
                ;;
            *.sql) echo "$0: running $file" && as_superuser --dbname "$POSTGRES_DB" -f "$file" ;;
            *.sql.gz) echo "$0: running $file" && gunzip -c "$file" | as_superuser --dbname "$POSTGRES_DB" ;;
            *.sql.xz) echo "$0: running $file" && xzcat "$file" | as_superuser --dbname "$POSTGRES_DB" ;;
            *.sql.zst) echo "$0: running $file" && zstd -dc "$file" | as_superuser --dbname "$POSTGRES_DB" ;;
            *) echo "$0: ignoring $file" ;;
        esac
    done
}

first_start() {
    init_database
    export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
    NOTIFY_SOCKET='' pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p 5432" -w start
    if [ "$POSTGRES_DB" != postgres ]; then
        as_superuser --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    run_init_files
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    echo 'PostgreSQL init process complete; ready for start up.'
}

if [ "${1:0:1}" = - ]; then
    set -- postgres "$@"
fi
asks_only() {
    local word
    for word in "$@"; do
        case $word in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
    done
    return 1
}

if [ "${1:-}" = postgres ] && ! asks_only "$@"; then
    make_folders
    if [ "$(id -u)" = 0 ]; then
        exec gosu postgres "${BASH_SOURCE[0]}" "$@"
    fi
    if [ -s "$PGDATA/PG_VERSION" ]; then
        echo 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
    else
        from_file POSTGRES_PASSWORD
        from_file POSTGRES_USER postgres
        from_file POSTGRES_DB "$POSTGRES_USER"
        from_file POSTGRES_INITDB_ARGS
        first_start
    fi
fi
exec "$@"
