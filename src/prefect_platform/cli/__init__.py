"""`./invoke`: Invoke's program with this repository's tasks, configuration and error messages."""
