"""What the probes need to know of an environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefect_platform.http_client import Trust


@dataclass(frozen=True)
class CheckSpec:
    """What to prove. `public_url` has no path (`http://127.0.0.1:8080`); `workers` are (pool, worker) names,
    `canary` those of a flow and its deployment, `slots` how many runs the workers of its pool take at a time, `timeout` seconds per
    request; `services` is the service that Prefect's background services run in; `sso_url` is where people sign in, if they do."""

    public_url: str
    token: str = field(repr=False)
    version: str
    workers: tuple[tuple[str, str], ...] = ()
    canary: tuple[str, str] | None = None
    slots: int | None = None
    services: str = "server"
    timeout: float = 5.0
    ui_path: str = "/prefect"
    api_path: str = "/prefect/api"
    ping_path: str = "/ping"
    trust: Trust = None
    sso_url: str | None = None

    @property
    def api_url(self) -> str:
        return self.public_url.rstrip("/") + self.api_path
