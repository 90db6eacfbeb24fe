"""A VPS on this machine, for rehearsals and tests."""

from __future__ import annotations

from typing import Any

from invoke.context import Context

from . import dev_tasks
from ._context import ROOT, say, show
from ._task import task


@task()
def up(c: Context, json: bool = False) -> None:
    """Start the lab: sshd, a Docker engine, images.

    Example: ./invoke lab.up

    Runs as root; installs missing Debian packages.
    """
    import prefect_platform_lab

    prefect_platform_lab.up(ROOT, say)
    _print(prefect_platform_lab.status(ROOT), json)
    say(
        "next: ./invoke platform.setup --env lab   deploy to it\n      ./invoke lab.down                 remove it"
    )


@task(help={"all": "delete its images and keys as well"})
def down(c: Context, all: bool = False) -> None:
    """Remove the lab; built images stay.

    Example: ./invoke lab.down

    With --all, its images and keys are deleted too.
    """
    import prefect_platform_lab

    prefect_platform_lab.down(ROOT, say, everything=all)
    say("the lab is gone" + ("" if all else "; its built images stay (--all deletes them too)"))


@task(help={"gently": "stop containers first instead of cutting the power"})
def reboot(c: Context, gently: bool = False) -> None:
    """Cut the lab's power and start it again.

    Example: ./invoke lab.reboot
    """
    import prefect_platform_lab

    prefect_platform_lab.reboot(ROOT, say, suddenly=not gently)


@task()
def status(c: Context, json: bool = False) -> None:
    """Show whether the lab runs and how to reach it.

    Example: ./invoke lab.status

    Exit 5 if it does not run.
    """
    import prefect_platform_lab
    from prefect_platform.errors import CheckFailed

    found = prefect_platform_lab.status(ROOT)
    _print(found, json)
    if not found["up"]:
        raise CheckFailed(f"lab: {found['why']}", "./invoke lab.up")


@task()
def lock(c: Context) -> None:
    """Compile the hashed locks of the lab's images.

    Example: ./invoke lab.lock

    From lab/images/*/requirements.in.
    """
    python = dev_tasks._python()
    for file in sorted((ROOT / "lab" / "images").glob("*/requirements.in")):
        # Without their dependencies: those are in the runtime's lock, and pip refuses to install what is in neither.
        words = [python, "-m", "uv", "pip", "compile", "--no-deps", "--universal", "--python-version", "3.11"]
        words += ["--generate-hashes", "--no-header", "--no-emit-index-url", "--quiet"]
        words += ["-c", str(ROOT / "requirements" / "runtime.txt"), file.name, "-o", "requirements.txt"]
        dev_tasks._finish(dev_tasks._run(words, cwd=file.parent))


def _print(found: dict[str, Any], json: bool) -> None:
    if json:
        return show(found)
    print(f"up          {'yes' if found['up'] else 'no: ' + found['why']}")
    print(f"ssh         ssh -F {found['ssh_config']} {found['host']}   (or {found['deployer']}: not root)")
    print(f"docker      DOCKER_HOST={found['docker_host']}   {found['containers']} containers")
    for image in found["images"]:
        print(f"image       {image['name']} ({image['kind']})")
    return None
