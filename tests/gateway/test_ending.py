"""Which tokens in use end soon: asked by the platform's status, from the records."""

from __future__ import annotations

from tests.gateway.ending import DAY, asked
from tests.gateway.process import Gateway


def test_those_in_use_that_end_within_two_weeks(gateway: Gateway) -> None:
    found = asked(gateway)
    assert [each["subject"] for each in found] == ["tests/sooner", "tests/soon"]
    assert set(found[0]) == {"id", "subject", "scope", "ends_in", "last_used"}
    assert [each["ends_in"] // DAY for each in found] == [0, 12]


def test_only_for_whoever_may_see_the_metrics(shared: Gateway) -> None:
    assert shared.get("/auth/tokens").status_code == 401
    plain = [("Authorization", f"Bearer {shared.new_token()}")]
    assert shared.get("/auth/tokens", plain).status_code == 403
    cookie = f"{shared.cookie_name}={shared.log_in()}"
    assert shared.get("/auth/tokens", [("Cookie", cookie)]).status_code == 401
