"""What sets this target apart."""

from prefect_platform.config.traits import Traits

TRAITS = Traits("compose", "split", vault=True, postgres=True, tls=True, sso=True, shared_host=True)
