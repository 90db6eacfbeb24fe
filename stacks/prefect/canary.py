"""The flow that proves the platform: one task, one log line, nothing to import but Prefect."""

from __future__ import annotations

from prefect import flow, get_run_logger, task


@task
def sing() -> str:
    """Return the word that the flow logs; being a task, it proves that task runs are recorded."""
    return "alive"


@flow(name="platform-canary")
def platform_canary() -> str:
    """Run one task and log one line."""
    word = sing()
    get_run_logger().info("platform canary: %s", word)
    return word


if __name__ == "__main__":
    platform_canary()
