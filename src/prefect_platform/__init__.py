"""prefect-platform: one declaration of a self-hosted Prefect 3, several places to run it."""

__version__ = "0.6.0"
