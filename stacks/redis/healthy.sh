#!/bin/sh
# Answers, takes the password, and may write: `redis-cli ping` alone exits 0 without a login and while Redis still loads.
set -eu
export REDISCLI_AUTH="$REDIS_PASSWORD"
[ "$(redis-cli -e ping)" = PONG ]
redis-cli -e set platform:health 1 EX 60 >/dev/null
