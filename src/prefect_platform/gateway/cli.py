"""The command line.

Arguments are parsed before anything heavy is imported, so a mistake is answered at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from prefect_platform.gateway.errors import GatewayError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; each of our errors becomes one line on stderr."""
    args = _parser().parse_args(arguments)
    os.umask(0o077)
    try:
        return _run(args)
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace) -> int:
    if args.command == "serve":
        from prefect_platform.gateway import settings

        loaded = settings.load(os.environ)
        from prefect_platform.gateway.serve import serve

        return serve(loaded)
    from prefect_platform.gateway import commands

    actions = {
        "create-token": commands.create_token,
        "list-tokens": commands.list_tokens,
        "revoke-token": commands.revoke_token,
        "login-url": commands.login_url,
    }
    return asyncio.run(actions[args.command](args, os.environ))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prefect_platform.gateway", description="Token verifier of the platform's gateway."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="machine-readable output")

    commands.add_parser("serve", help="run the verifier (configured by GATEWAY_* variables)")
    create = commands.add_parser(
        "create-token", parents=[output], help="issue a token; only the token goes to stdout"
    )
    create.add_argument("--project", required=True, metavar="P")
    create.add_argument("--service", required=True, metavar="S")
    create.add_argument("--description", default="", metavar="TEXT")
    create.add_argument(
        "--scope",
        default="prefect",
        metavar="WORDS",
        help='what it may reach, e.g. "prefect metrics" (default: prefect)',
    )
    create.add_argument(
        "--expires", default="90d", metavar="DURATION", help="12h, 90d, 52w; at most 5 years (default: 90d)"
    )
    listing = commands.add_parser(
        "list-tokens", parents=[output], help="active tokens (never the token itself)"
    )
    listing.add_argument(
        "--all", action="store_true", help="also expired and revoked tokens, and browser sessions"
    )
    revoke = commands.add_parser(
        "revoke-token", parents=[output], help="revoke a token or session; in effect within 5 s"
    )
    revoke.add_argument("jti", metavar="ID", help="id, or its first 8 or more characters")
    login = commands.add_parser("login-url", parents=[output], help="a one-time link that logs a browser in")
    login.add_argument(
        "--scope",
        default="prefect metrics",
        metavar="WORDS",
        help='what the session may reach (default: "prefect metrics")',
    )
    return parser
