"""What sets this target apart."""

from prefect_platform.config.traits import Traits

TRAITS = Traits("local", "combined")
