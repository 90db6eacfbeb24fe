"""What may go wrong in the gateway.

GatewayError          1  one clear line for the operator, then exit
└── UsageError        2  the environment or an argument is wrong; nothing was touched
StoreUnavailable         the store cannot be read now; it may come back (503, or exit 1 on the command line)
Refused                  a credential that does not hold; without a reason, nothing may be learned from it
"""

from __future__ import annotations


class GatewayError(Exception):
    exit_code = 1


class UsageError(GatewayError):
    exit_code = 2


class StoreUnavailable(GatewayError):
    pass


class Refused(Exception):
    pass
