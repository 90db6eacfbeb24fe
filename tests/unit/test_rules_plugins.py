"""Traefik's plugins: no stack's routes are served before the Traefik that has what they use; none that they use is taken away."""

from __future__ import annotations

import pytest

from prefect_platform.errors import ConfigError, PreflightError
from prefect_platform.planning.bundle import Bundle
from prefect_platform.planning.diff import Plan
from prefect_platform.targets.compose import apply, plugins

from .rules import FakeHost, stack

OLD, NOW = "20260101T000000Z-aaaaaaaa", "20260102T000000Z-bbbbbbbb"
ROUTES = b"http:\n  middlewares:\n    a: {plugin: {admission: {open: 5}}}\n    b: {stripPrefix: {prefixes: [/x]}}\n"
PLAIN = b"http:\n  middlewares:\n    b: {stripPrefix: {prefixes: [/x]}}\n"


def _traefik(fake: FakeHost, release: str, *names: str) -> None:
    fake.release("traefik", release, scope="host")
    for name in names:
        (
            fake.root / f"host/traefik/releases/{release}/files/0123456789abcdef/plugins-local/src/{name}"
        ).mkdir(parents=True)


def test_routes_wait_for_the_traefik_that_has_their_plugin(fake: FakeHost) -> None:
    _traefik(fake, OLD)
    with pytest.raises(PreflightError, match=r"app: its routes use Traefik's plugin admission") as refused:
        apply.apply(fake.site, Bundle(stack("app"), {}, (), ROUTES), Plan(()))
    assert "./invoke traefik.setup --env lab" in refused.value.hint
    assert fake.docker() == []
    assert not (fake.root / "lab").exists()
    _traefik(fake, NOW, "admission", "other")
    plugins.require(fake.site, Bundle(stack("app"), {}, (), ROUTES))


@pytest.mark.parametrize("routes", [PLAIN, None])
def test_routes_without_a_plugin_ask_nothing_of_traefik(fake: FakeHost, routes: bytes | None) -> None:
    _traefik(fake, OLD)
    plugins.require(fake.site, Bundle(stack("app"), {}, (), routes))


def test_on_an_empty_host_nothing_is_lacking(fake: FakeHost) -> None:
    plugins.require(fake.site, Bundle(stack("app"), {}, (), ROUTES))


def test_traefik_does_not_go_back_behind_what_routes_use(fake: FakeHost) -> None:
    proxy = stack("traefik", scope="host")
    _traefik(fake, OLD)
    _traefik(fake, NOW, "admission")
    fake.history(("traefik.setup", OLD, "good"), ("traefik.setup", NOW, "good"), scope="host")
    routes = fake.root / "host" / "routes"
    routes.mkdir()
    (routes / "lab-gateway.yml").write_bytes(ROUTES)
    with pytest.raises(ConfigError, match=rf"{OLD} lacks the plugin admission, .* lab-gateway.yml"):
        fake.target.roll_back(proxy, "", False)
    assert fake.docker() == []
    (routes / "lab-gateway.yml").write_bytes(PLAIN)
    assert fake.target.roll_back(proxy, "", False) == OLD
