#!/bin/sh
# Starts Redis with the password from the environment: redis.sh MAXMEMORY. The configuration goes in by standard input, so that the
# password stands in no file and no argument; every byte of it is written as \xHH, which survives any character.
set -eu
quoted=$(printf %s "$REDIS_PASSWORD" | od -An -v -tx1 | tr -d ' \n' | sed 's/../\\x&/g')
exec redis-server - <<CONFIG
requirepass "$quoted"
maxmemory $1
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
dir /data
bind * -::*
protected-mode no
save 3600 1
CONFIG
