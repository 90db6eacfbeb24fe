"""A new Authentik: an account that may do what the platform does, and no more; the bootstrap token ends."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from authentik_client import models

from prefect_platform.errors import ConfigError, PlatformError
from prefect_platform.provisioning.authentik import apps, bootstrap, plan
from prefect_platform.provisioning.authentik.application import Wanted
from prefect_platform_lab.standins.authentik import state

from .conftest import TOKEN, Authentik

KEY = "our-own-token"


def admit(authentik: Authentik) -> tuple[str, ...]:
    with authentik.client() as admin, authentik.client(KEY) as ours:
        return bootstrap.admit(admin, ours, KEY, "operators")


def test_from_new_to_an_account_of_our_own(authentik: Authentik, want: Wanted) -> None:
    assert admit(authentik) == (
        "created group operators with akadmin",
        "created account prefect-platform",
        "deleted the bootstrap token",
    )
    with authentik.client() as admin:
        assert not bootstrap.works(admin)
    with authentik.client(KEY) as ours:
        assert bootstrap.works(ours)
        assert apps.ensure(ours, want, lambda line: None)
        assert apps.ensure(ours, want, lambda line: None) == ()
        assert apps.ensure(ours, want, lambda line: None, plan.plan_removal)
    # The password that came with the account is gone.
    assert [each["identifier"] for each in authentik.state["tokens"].values()] == ["prefect-platform"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/core/tokens/", {"identifier": "x", "user": 1, "intent": "api"}),
        ("POST", "/core/users/service_account/", {"name": "x"}),
        ("POST", "/core/groups/GROUP/add_user/", {"pk": 2}),
        (
            "POST",
            "/rbac/permissions/assigned_by_roles/ROLE/assign/",
            {"permissions": ["authentik_core.view_user"]},
        ),
        ("GET", "/core/users/", None),
        ("GET", "/core/tokens/prefect-platform/view_key/", None),
    ],
)
def test_our_account_cannot_make_itself_more(authentik: Authentik, method: str, path: str, body: Any) -> None:
    admit(authentik)
    group = next(each["pk"] for each in authentik.state["groups"].values() if each["is_superuser"])
    role = next(iter(authentik.state["roles"]))
    path = path.replace("GROUP", group).replace("ROLE", role)
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.request(method, f"{authentik.url}/api/v3{path}", json=body, headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "You do not have permission to perform this action.",
    )


@pytest.mark.parametrize("point", range(8))
def test_interrupted_anywhere_it_converges(
    authentik: Authentik, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = iter(range(point))
    with authentik.client() as admin, authentik.client(KEY) as ours:
        write = admin.write

        def cut(*words: Any) -> Any:
            if next(allowed, None) is None:
                raise KeyboardInterrupt
            return write(*words)

        monkeypatch.setattr(admin, "write", cut)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.admit(admin, ours, KEY, "operators")
    admit(authentik)
    with authentik.client(KEY) as ours:
        assert bootstrap.works(ours)
    with authentik.client() as admin:
        assert not bootstrap.works(admin)
    (group,) = (each for each in authentik.state["groups"].values() if each["name"] == "operators")
    akadmin = next(each["pk"] for each in authentik.state["users"].values() if each["username"] == "akadmin")
    assert group["users"] == [akadmin]


def test_it_is_waited_for_and_said_what_is_missing(authentik: Authentik) -> None:
    answers = iter([503, 500, None, None])
    real, said = dict(authentik.state), list[str]()
    authentik.store.state = state.empty()

    def slowly(method: str, path: str) -> Any:
        if next(answers, "ready") == "ready":
            authentik.store.state = real
        return None

    authentik.api.fail = slowly
    with authentik.client() as admin:
        bootstrap.wait_ready(admin, 20, said.append)
    assert said == ["waiting for Authentik to set itself up (the bootstrap token is not active yet)"]
    del authentik.state["flows"][state.INVALIDATION]
    with (
        authentik.client() as admin,
        pytest.raises(PlatformError, match="flow default-provider-invalidation-flow"),
    ):
        bootstrap.wait_ready(admin, 0, said.append)


def test_administrators_and_tokens(authentik: Authentik) -> None:
    state.add_user(authentik.state, "jo", "secret")
    with authentik.client() as admin:
        assert bootstrap.ensure_group(admin, "operators", "akadmin") == (
            "created group operators with akadmin",
        )
        assert bootstrap.ensure_group(admin, "operators", "akadmin") == ()
        bootstrap.add_member(admin, "operators", "jo")
        with pytest.raises(PlatformError, match="no user 'nobody'"):
            bootstrap.add_member(admin, "operators", "nobody")
        key = bootstrap.create_token(admin, "script", "akadmin")
    with authentik.client(key) as script:
        assert bootstrap.works(script)
    with (
        authentik.client() as admin,
        pytest.raises(PlatformError, match="identifier: Token with this identifier"),
    ):
        bootstrap.create_token(admin, "script", "akadmin")


def test_the_bodies_are_the_official_client_s(authentik: Authentik) -> None:
    admit(authentik)
    kinds: dict[str, Any] = {
        "core/groups/": models.GroupRequest,
        "core/users/service_account/": models.UserServiceAccountRequest,
        "rbac/roles/": models.RoleRequest,
        "core/tokens/": models.TokenRequest,
        "core/tokens/prefect-platform/set_key/": models.TokenSetKeyRequest,
    }
    for method, path, body in authentik.api.writes:
        if method == "POST":
            ending = path.rstrip("/").rpartition("/")[2]
            special = {"assign": models.PermissionAssignRequest, "add_user": models.UserAccountRequest}
            model = special.get(ending) or kinds[path]
            assert model(**body).model_dump(mode="json", by_alias=True, exclude_unset=True) == body
    assert TOKEN not in str(authentik.api.log)


def test_a_wrong_token_is_no_missing_server(authentik: Authentik) -> None:
    with authentik.client("wrong") as api:
        assert not bootstrap.works(api)
        with pytest.raises(ConfigError, match="invalid or expired"):
            bootstrap.add_member(api, "operators", "jo")
