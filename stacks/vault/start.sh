#!/bin/sh
# Becomes the Vault server: start.sh PROGRAM server -config=FILE. With a static seal, the very first start makes the key that opens
# Vault after every later one.
set -eu
umask 077
# Of a key service: a file each, named as the variable.
for file in "${CREDENTIALS_FOLDER:=/credentials}"/*; do
    if [ -f "$file" ]; then
        export "${file##*/}=$(cat "$file")"
    fi
done
: "${SEAL_FOLDER:=/openbao/seal}" "${DATA_FOLDER:=/openbao/data}"
if grep -q '^seal "static"' "${3#-config=}" && [ ! -s "$SEAL_FOLDER/key" ]; then
    if [ -e "$DATA_FOLDER/vault.db" ]; then
        echo "$SEAL_FOLDER/key is gone, but there is data that only this key opens: restore it from a backup" >&2
        exit 1
    fi
    # Whole or not at all.
    head -c 32 /dev/urandom >"$SEAL_FOLDER/.key"
    mv "$SEAL_FOLDER/.key" "$SEAL_FOLDER/key"
fi
exec "$@"
