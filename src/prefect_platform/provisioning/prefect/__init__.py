"""What the settings declare inside Prefect."""
