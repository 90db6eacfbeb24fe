"""What a stack's processes find at run time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Where:
    """What a stack's processes find at run time: absolute paths and names; `topology` is combined or split.

    `base` is the path under which Prefect is served, `entry` Traefik's entry point, `listen` the address to bind,
    `outside` the address that the gateway listens on where that is not the settings' affair, `proxy` the header in which a trusted
    proxy in front of it names the client, `ui` a prepared folder of the UI's files, `official` whether the processes run in an official
    image, which lacks what the runtime's lock adds, `open_ready` whether /ready of the gateway answers without a token, `drain_seconds` how long a worker's stop waits for its runs unless it is declared. The
    others belong to the split topology: `prefix` and `suffix` of container names, `tag` before the names of Traefik's objects (several
    environments share one Traefik), the public `host`, the `shared` folder of routes on the host, the stack's
    `private` one.
    """

    topology: str
    python: str
    traefik: str
    entrypoint: str
    template: str
    bundle: str
    data: str
    routes: str
    secrets: str
    base: str = "/prefect"
    outside: str = ""
    proxy: str = ""
    ui: str = ""
    official: bool = False
    listen: str = "127.0.0.1"
    drain_seconds: int = 300
    open_ready: bool = False
    prefix: str = ""
    suffix: str = ""
    tag: str = ""
    host: str = ""
    entry: str = "web"
    shared: str = ""
    private: str = ""

    def container(self, stack: str, service: str = "") -> str:
        """The name of a container (split topology): `platform-prefect-server-staging`."""
        return f"{self.prefix}{stack}{'-' + service if service else ''}{self.suffix}"

    def address(self, stack: str, service: str = "") -> str:
        """The host name under which others reach a service."""
        return self.container(stack, service) if self.topology == "split" else "127.0.0.1"

    @staticmethod
    def http_probe(port: int, path: str, shows: str = "") -> str:
        """A program for `python -I -S -c`, the health check in a container without curl: exit 0 when GET `path` answers 200, else 1 with
        the answer's first line. It runs each ten seconds in every container; without `site` and urllib it takes a third of the time.
        When all is well it prints the file `shows`, where there is one: Docker keeps what a health check says.
        """
        steps = [
            "import socket, sys",
            f"it = socket.create_connection(('127.0.0.1', {port}), 4)",
            f"it.sendall(b'GET {path} HTTP/1.0\\r\\n\\r\\n')",
            "said = it.recv(64).partition(b'\\r')[0].decode()",
            "sys.exit(0 if ' 200 ' in said else said)",
        ]
        if shows:
            steps[-1:] = [
                "' 200 ' in said or sys.exit(said)",
                f"import os; os.path.isfile({shows!r}) and print(open({shows!r}).read())",
            ]
        return "; ".join(steps)

    def api_servers(self, replicas: int) -> list[str]:
        """The host names of Prefect's API servers; the first has no number."""
        names = ["server", *(f"server-{number}" for number in range(2, replicas + 1))]
        return [self.address("prefect", name) for name in (names if self.topology == "split" else names[:1])]
