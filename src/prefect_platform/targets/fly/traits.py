"""What sets this target apart."""

from prefect_platform.config.traits import Traits

TRAITS = Traits(
    "fly", "combined", private_network=True, replica=True, provided_url="https://{fly[app]}.fly.dev"
)
