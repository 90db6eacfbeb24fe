#!/bin/sh
# Answers, takes the password, and may write: `redis-cli ping` alone exits 0 without a login and while Redis still loads.
set -eu
export REDISCLI_AUTH="$REDIS_PASSWORD"
[ "$(redis-cli -e ping)" = PONG ]
# In the database that Prefect uses, for 1 ms: number 0 stays empty, and no key of ours is seen in any.
redis-cli -n 1 -e set platform:health 1 PX 1 >/dev/null
