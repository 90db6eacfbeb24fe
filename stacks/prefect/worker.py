"""Run a process worker that drains on SIGTERM: `worker.py --pool P --name N [--queue Q ...] [--limit L]`.

Like `prefect worker start --type process`, but

- SIGTERM (or Ctrl-C) stops claiming runs at once, lets the running ones finish for up to `--drain-seconds`,
  then exits 0;
- what is still alive after that, or at a second signal, is stopped and ends in a true final state, not in
  RUNNING for ever;
- an API that is down, at start or later, never ends the worker;
- that a worker ended by itself, and why, its successor tells the server (`worker_ended`);
- the end of a run that could not be reported while the server was away is reported later (`worker_ends`).

The pool is created by the platform beforehand; the worker waits for it. On a Prefect version that has not
been tested the stock command is started instead, with a warning.
"""

from __future__ import annotations

import gc

gc.disable()  # Collections during the imports find nothing and cost a fifth of them.

import argparse  # noqa: E402
import asyncio  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, NoReturn  # noqa: E402

if TYPE_CHECKING:
    from worker_drain import DrainingWorker
    from worker_ended import Note


def main(argv: list[str]) -> int:
    """Run the worker until it is told to stop; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # nothing runs yet
    args = _parser().parse_args(argv)
    _wait_for_api(os.environ.get("PREFECT_API_URL", ""))
    try:
        from worker_drain import DrainingWorker, unsupported_reason
    except ImportError as error:
        why = f"this Prefect has another worker ({error})"
        _publish(why)
        _exec_stock(args, why)
    reason = unsupported_reason()
    _publish(reason)
    if reason is not None:
        _exec_stock(args, reason)
    gc.freeze()
    gc.enable()
    worker = DrainingWorker(
        work_pool_name=args.pool,
        work_queues=args.queue or None,
        name=args.name,
        limit=args.limit,
        create_pool_if_not_found=False,
    )
    return asyncio.run(_work(worker, args))


def _publish(reason: str | None) -> None:
    import launched
    import prefect

    launched.publish(prefect.__version__, ["drain at a stop"], reason)


def _wait_for_api(url: str, seconds: float = 30.0) -> None:
    """Wait for somebody to listen there, `seconds` at most.

    Started together with the server, a worker would import Prefect beside it and take half of a small machine from it, while it has
    nothing to do before the server answers.
    """
    host, _, port = url.partition("://")[2].partition("/")[0].rpartition(":")
    deadline = time.monotonic() + seconds
    while host and port.isdecimal() and time.monotonic() < deadline:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="worker.py", description="Run a process worker that drains on SIGTERM."
    )
    parser.add_argument("--pool", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument(
        "--queue", action="append", default=[], help="repeatable; default: all queues of the pool"
    )
    parser.add_argument("--limit", type=int, help="most flow runs at a time")
    parser.add_argument(
        "--drain-seconds", type=float, default=300.0, help="longest wait for running flows at a stop"
    )
    parser.add_argument(
        "--kill-seconds", type=float, default=10.0, help="between SIGTERM and SIGKILL of a flow"
    )
    parser.add_argument(
        "--with-healthcheck", action="store_true", help="/health on PREFECT_WORKER_WEBSERVER_PORT"
    )
    return parser


async def _work(worker: DrainingWorker, args: argparse.Namespace) -> int:
    from worker_drain import say
    from worker_ended import Note
    from worker_stop import Stop

    home = Path(os.environ.get("PREFECT_HOME") or ".").absolute()
    stop = Stop(worker, drain_seconds=args.drain_seconds, kill_seconds=args.kill_seconds)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.request)
    note = Note(home, args.pool, args.name)
    note.begin()
    work = asyncio.create_task(worker.start(with_healthcheck=args.with_healthcheck, printer=say))
    draining = asyncio.create_task(stop.run())
    folder = home / f"worker-{args.name}"
    beside = [asyncio.create_task(each) for each in (_tell(note), _report_ends(worker, folder))]
    await asyncio.wait({work, draining}, return_when=asyncio.FIRST_COMPLETED)
    for each in beside:
        each.cancel()
    if not draining.done():
        draining.cancel()
        return _failure(work, note)
    honest = draining.result()
    work.cancel()
    await asyncio.wait({work}, timeout=10)
    note.stopped()
    say("stopped")
    return 0 if honest else 1


async def _tell(note: Note) -> None:
    """Tell the server of a predecessor that ended by itself, as soon as it answers."""
    import httpx

    url = f"{os.environ.get('PREFECT_API_URL', '')}/events"
    while event := note.event():
        try:
            async with httpx.AsyncClient(timeout=10) as client:
                (await client.post(url, json=[event])).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error:
                print(
                    f"worker.py: the server does not take how the last worker ended: {error}", file=sys.stderr
                )
                return
            await asyncio.sleep(2)
        else:
            note.told()


async def _report_ends(worker: DrainingWorker, folder: Path) -> None:
    """Have flow processes note their ends, and report what they could not."""
    import worker_ends
    from prefect.client.orchestration import get_client
    from worker_drain import say

    try:
        worker.ends = worker_ends.install(folder, os.environ)
        worker_ends.keep(worker.ends)
    except OSError as error:
        say(f"{folder}: {error.strerror}: the end of a run is lost if the server is away then")
        return
    async with get_client() as client:
        await worker_ends.report(worker.ends, client, worker.attempts)


def _failure(work: asyncio.Task[None], note: Note) -> int:
    error = work.exception()
    note.ended(repr(error))
    print(f"worker.py: ended by itself: {error!r}", file=sys.stderr, flush=True)
    return 1


def _exec_stock(args: argparse.Namespace, reason: str) -> NoReturn:
    print(
        f"worker.py: {reason}: starting stock `prefect worker start` (a stop kills running flows)",
        file=sys.stderr,
        flush=True,
    )
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", args.pool]
    command += ["--name", args.name]
    for queue in args.queue:
        command += ["--work-queue", queue]
    if args.limit is not None:
        command += ["--limit", str(args.limit)]
    if args.with_healthcheck:
        command.append("--with-healthcheck")
    os.execv(sys.executable, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
