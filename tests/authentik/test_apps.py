"""create-proxy-app: it makes what is wanted, touches nothing else, and is at no moment open."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from authentik_client import models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import Response

from prefect_platform.errors import ApplyError, ConfigError, PlatformError
from prefect_platform.provisioning.authentik import apps, plan
from prefect_platform.provisioning.authentik.application import Change, Wanted, outcome, wanted
from prefect_platform_lab.standins.authentik import state

from .conftest import SSO, Authentik, embedded

QUIET: list[str] = []


def ensure(authentik: Authentik, want: Wanted, **how: Any) -> tuple[Change, ...]:
    with authentik.client() as api:
        return apps.ensure(api, want, QUIET.append, **how)


def ours(authentik: Authentik) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Provider, application, bindings."""
    application = authentik.state["applications"]["prefect"]
    bindings = [each for each in authentik.state["bindings"].values() if each["target"] == application["pk"]]
    return authentik.state["providers"][str(application["provider"])], application, bindings


def test_the_first_run_creates_and_the_second_writes_nothing(authentik: Authentik, want: Wanted) -> None:
    before = authentik.foreign()
    told = [str(change) for change in ensure(authentik, want)]
    assert [line.split(":")[0] for line in told] == [
        "created provider Prefect",
        "created application prefect",
        "created binding prefect ← admins",
        "updated application prefect",
        "updated outpost embedded",
    ]
    provider, application, bindings = ours(authentik)
    assert provider["mode"] == "forward_single"
    assert provider["external_host"] == "https://prefect.example.com"
    assert provider["internal_host"] == "http://platform-prefect-server:4200"
    assert provider["intercept_header_auth"] is False
    assert application["name"] == "Prefect"
    assert [authentik.state["groups"][each["group"]]["name"] for each in bindings] == ["admins"]
    assert provider["pk"] in embedded(authentik.state)["providers"]
    written = len(authentik.api.writes)
    assert written == 5
    assert ensure(authentik, want) == ()
    assert len(authentik.api.writes) == written
    after = authentik.foreign()
    for table, rows in before.items():
        if table != "outposts":
            assert after[table] == rows
    assert len(before["providers"]) == len(before["groups"]) == 25


def test_what_an_outpost_has_besides_survives(authentik: Authentik, want: Wanted) -> None:
    before = copy.deepcopy(embedded(authentik.state))
    ensure(authentik, want)
    after = embedded(authentik.state)
    assert set(before["providers"]) < set(after["providers"])
    assert after["config"] == before["config"]


@pytest.mark.parametrize(
    ("known", "own", "after"),
    [
        ("", False, SSO),
        ("http://0.0.0.0:9000", False, SSO),
        ("http://authentik-server:9000", False, SSO),
        ("https://elsewhere.example.com", False, "https://elsewhere.example.com"),
        ("https://elsewhere.example.com", True, SSO),
        (f"{SSO}/", True, f"{SSO}/"),
    ],
)
def test_where_browsers_are_sent_to(
    authentik: Authentik, want: Wanted, known: str, own: bool, after: str
) -> None:
    embedded(authentik.state)["config"]["authentik_host"] = known
    ensure(authentik, replace(want, own=own))
    config = embedded(authentik.state)["config"]
    assert config["authentik_host"] == after
    assert config["kubernetes_namespace"] == "kept"


def test_every_body_is_what_the_official_client_would_send(authentik: Authentik, want: Wanted) -> None:
    embedded(authentik.state)["config"]["authentik_host"] = ""
    ensure(authentik, replace(want, groups=("admins", "new"), create_groups=True))
    ensure(
        authentik, replace(want, external_host="https://other.example.com", name="Prefect", groups=("new",))
    )
    requests: dict[tuple[str, str], Any] = {
        ("POST", "core/groups"): models.GroupRequest,
        ("POST", "providers/proxy"): models.ProxyProviderRequest,
        ("PATCH", "providers/proxy"): models.PatchedProxyProviderRequest,
        ("POST", "core/applications"): models.ApplicationRequest,
        ("PATCH", "core/applications"): models.PatchedApplicationRequest,
        ("POST", "policies/bindings"): models.PolicyBindingRequest,
        ("PATCH", "outposts/instances"): models.PatchedOutpostRequest,
    }
    seen = set()
    for method, path, body in authentik.api.writes:
        kind = (method, "/".join(path.split("/")[:2]))
        if method == "DELETE":
            continue
        seen.add(kind)
        # Through JSON and back: the model keeps UUIDs, the wire has texts.
        assert requests[kind](**body).model_dump(mode="json", by_alias=True, exclude_unset=True) == body
    assert seen == set(requests)


def test_groups_follow_the_declaration(authentik: Authentik, want: Wanted) -> None:
    ensure(authentik, want)
    _, application, _ = ours(authentik)
    akadmin = next(each["pk"] for each in authentik.state["users"].values() if each["username"] == "akadmin")
    foreign = {"user": akadmin, "group": None}
    with authentik.client() as api:
        api.write("POST", "/policies/bindings/", {"target": application["pk"], "user": akadmin, "order": 7})
    told = [str(each) for each in ensure(authentik, replace(want, groups=("Admins", "foreign 3")))]
    assert told == [
        "created binding prefect ← Admins",
        "created binding prefect ← foreign 3",
        "removed binding prefect ← admins: no longer wanted",
    ]
    _, _, bindings = ours(authentik)
    assert sorted(each["order"] for each in bindings) == [1, 2, 7]
    assert any({name: each[name] for name in foreign} == foreign for each in bindings)


def test_a_binding_that_grants_nothing_is_replaced(authentik: Authentik, want: Wanted) -> None:
    ensure(authentik, want)
    _, _, bindings = ours(authentik)
    bindings[0]["enabled"] = False
    told = [str(each) for each in ensure(authentik, want)]
    assert told[0] == "created binding prefect ← admins"
    assert told[1].startswith("removed binding prefect ← admins")
    assert [each["enabled"] for each in ours(authentik)[2]] == [True]


def test_more_bindings_than_a_page_has(authentik: Authentik, want: Wanted) -> None:
    ensure(authentik, want)
    _, _, bindings = ours(authentik)
    wanted = bindings[0]
    rows = authentik.state["bindings"]
    del rows[wanted["pk"]]
    for number in range(150):
        user = state.add_user(authentik.state, f"person {number}")
        more = {**wanted, "pk": state.new_uuid(), "group": None, "user": user["pk"], "order": number + 1}
        rows[more["pk"]] = more
    rows[wanted["pk"]] = wanted  # the last of them
    assert ensure(authentik, want) == ()


def test_drift_is_mended(authentik: Authentik, want: Wanted) -> None:
    ensure(authentik, want)
    provider, application, _ = ours(authentik)
    provider["external_host"] = "https://wrong.example.com"
    application["policy_engine_mode"] = "all"
    told = [str(each) for each in ensure(authentik, want)]
    assert told == [
        "updated provider Prefect: external_host",
        "updated application prefect: policy_engine_mode",
    ]


@pytest.mark.parametrize("spelled", ["https://prefect.example.com/", "HTTPS://PREFECT.example.com:443"])
def test_the_same_host_spelled_otherwise_is_no_change(
    authentik: Authentik, want: Wanted, spelled: str
) -> None:
    ensure(authentik, want)
    ours(authentik)[0]["external_host"] = spelled
    assert ensure(authentik, want) == ()


# -- what only a person can decide
def test_a_group_that_is_not_there_is_an_error_and_nothing_is_written(
    authentik: Authentik, want: Wanted
) -> None:
    with pytest.raises(ConfigError, match="no group 'admin'") as error:
        ensure(authentik, replace(want, groups=("admin",)))
    assert "--create-groups" in error.value.hint
    assert authentik.api.writes == []
    ensure(authentik, replace(want, groups=("operators",), create_groups=True))
    assert any(each["name"] == "operators" for each in authentik.state["groups"].values())


def test_nobody_named_is_an_error_and_everyone_must_be_said() -> None:
    with pytest.raises(ConfigError, match="open to every Authentik user") as error:
        wanted("Prefect", "prefect", "https://a.example.com", "server", 4200, [], SSO)
    assert "--everyone" in error.value.hint
    assert wanted("P", "p", "https://a.example.com", "server", 4200, [], SSO, everyone=True).groups == ()


@pytest.mark.parametrize(
    "url", ["prefect.example.com", "https://a.example.com/prefect", "ftp://a", "https://", "https://a:b"]
)
def test_an_external_host_that_cannot_work(url: str) -> None:
    with pytest.raises(ConfigError, match="--external-host"):
        wanted("P", "p", url, "server", 4200, ["admins"], SSO)


def test_an_application_of_somebody_else_is_left_alone(authentik: Authentik, want: Wanted) -> None:
    before = copy.deepcopy(authentik.state)
    with pytest.raises(ConfigError, match="has another provider"):
        ensure(authentik, replace(want, slug="foreign-1"))
    with pytest.raises(ConfigError, match="belongs to application 'foreign-1'"):
        ensure(authentik, replace(want, name="foreign 1"))
    with pytest.raises(ConfigError, match="differs only in case"):
        ensure(authentik, replace(want, name="Foreign 1"))
    assert authentik.state == before
    ensure(authentik, replace(want, slug="foreign-1", adopt=True))
    joined = authentik.state["applications"]["foreign-1"]["provider"]
    assert authentik.state["providers"][str(joined)]["name"] == "Prefect"


def test_a_name_that_a_provider_of_another_kind_has(authentik: Authentik, want: Wanted) -> None:
    authentik.state["other_providers"]["900"] = {"pk": 900, "name": "Prefect"}
    with pytest.raises(PlatformError, match="name: provider with this name already exists") as error:
        ensure(authentik, want)
    assert "another --name" in error.value.hint


def test_a_dry_run_writes_nothing_and_tells_all(authentik: Authentik, want: Wanted) -> None:
    with authentik.client() as api:
        changes = plan.plan(want, apps.observe(api, want))
    assert [each.kind for each in changes] == ["provider", "application", "binding", "application", "outpost"]
    assert authentik.api.writes == []


def test_each_object_is_told(authentik: Authentik, want: Wanted) -> None:
    """Created, updated or unchanged; what a run made and then completed was created."""

    def told(want: Wanted) -> list[tuple[str, str, str, str]]:
        lines = outcome(want, ensure(authentik, want))
        return [(each["action"], each["kind"], each["name"], each["cause"]) for each in lines]

    assert told(want) == [
        ("unchanged", "group", "admins", ""),
        ("created", "provider", "Prefect", ""),
        ("created", "application", "prefect", ""),
        ("created", "binding", "prefect ← admins", ""),
        ("updated", "outpost", "embedded", "providers"),
    ]
    assert {action for action, *_ in told(want)} == {"unchanged"}
    authentik.state["applications"]["prefect"]["name"] = "changed by hand"
    assert told(replace(want, groups=("operators",), create_groups=True)) == [
        ("created", "group", "operators", ""),
        ("unchanged", "provider", "Prefect", ""),
        ("updated", "application", "prefect", "name"),
        ("created", "binding", "prefect ← operators", ""),
        ("unchanged", "outpost", "embedded", ""),
        ("removed", "binding", "prefect ← admins", "no longer wanted"),
    ]


# -- interruptions
class Cut(Exception):
    pass


def invariant(now: dict[str, Any]) -> None:
    """Never served to anybody who was not allowed to: what the outpost serves has a binding."""
    served = embedded(now)["providers"]
    for application in now["applications"].values():
        if application["provider"] in served:
            assert any(each["target"] == application["pk"] for each in now["bindings"].values()), application[
                "slug"
            ]


@pytest.mark.parametrize("point", range(5))
def test_interrupted_at_every_write_it_converges(
    authentik: Authentik, want: Wanted, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with authentik.client() as api:
        allowed = iter(range(point))
        write = api.write

        def cut(*words: Any) -> Any:
            invariant(authentik.state)
            if next(allowed, None) is None:
                raise Cut
            return write(*words)

        monkeypatch.setattr(api, "write", cut)
        with pytest.raises(Cut):
            apps.ensure(api, want, QUIET.append)
    invariant(authentik.state)
    ensure(authentik, want)
    assert ensure(authentik, want) == ()
    ours(authentik)
    invariant(authentik.state)


TROUBLE = st.lists(st.sampled_from(["good", "lost", "refused"]), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(troubles=TROUBLE)
def test_lost_replies_and_failures_anywhere(server: Authentik, want: Wanted, troubles: list[str]) -> None:
    """`lost`: it was done and the answer is a 500; `refused`: a 500 and nothing was done."""
    server.reset()
    state.add_group(server.state, "admins")
    todo = iter(troubles)
    real = server.api._answer

    def answer(now: Any, request: Any, path: str, body: Any, caller: int) -> Response:
        invariant(now)
        kind = next(todo, "good") if request.method != "GET" else "good"
        if kind == "refused":
            return Response(status_code=500)
        done = real(now, request, path, body, caller)
        return Response(status_code=500) if kind == "lost" else done

    server.api._answer = answer  # type: ignore[method-assign]
    try:
        for _ in range(len(troubles) + 1):
            try:
                ensure(server, want)
                break
            except ApplyError:
                invariant(server.state)
        assert ensure(server, want) == ()
    finally:
        server.api._answer = real  # type: ignore[method-assign]
    assert (
        len(server.state["providers"])
        == len(server.state["applications"])
        == len(server.state["bindings"])
        == 1
    )
    invariant(server.state)


def test_a_provider_already_served_gets_its_application_only_with_bindings(
    authentik: Authentik, want: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has deleted the application: the outpost still has the provider."""
    ensure(authentik, want)
    with authentik.client() as api:
        api.write("DELETE", "/core/applications/prefect/")
        write = api.write

        def watched(*words: Any) -> Any:
            done = write(*words)
            invariant(authentik.state)
            return done

        monkeypatch.setattr(api, "write", watched)
        apps.ensure(api, want, QUIET.append)
    assert ours(authentik)[0]["pk"] in embedded(authentik.state)["providers"]


# -- the way back
def test_removal_and_again(authentik: Authentik, want: Wanted) -> None:
    before = copy.deepcopy(
        {name: authentik.state[name] for name in ("providers", "applications", "bindings", "outposts")}
    )
    ensure(authentik, want)
    told = [str(each) for each in ensure(authentik, want, decide=plan.plan_removal)]
    assert told[0] == "updated outpost embedded: providers"
    assert told[-1] == "removed application prefect"
    assert {name: authentik.state[name] for name in before} == before
    assert ensure(authentik, want, decide=plan.plan_removal) == ()


# -- what is said when it cannot be
def test_wrong_token_missing_right_and_no_server(authentik: Authentik, want: Wanted) -> None:
    with (
        authentik.client("wrong") as api,
        pytest.raises(ConfigError, match="missing, invalid or expired") as error,
    ):
        apps.observe(api, want)
    assert "AUTHENTIK_TOKEN" in error.value.hint
    assert "wrong" not in str(error.value)
    state.add_token(authentik.state, "weak", state.add_user(authentik.state, "weak")["pk"], "weak-token")
    with authentik.client("weak-token") as api, pytest.raises(ConfigError, match="may not do this"):
        apps.observe(api, want)


def test_a_server_that_fails_once_is_asked_again(authentik: Authentik, want: Wanted) -> None:
    failures = iter([Response(status_code=500), Response(status_code=502)])
    authentik.api.fail = lambda method, path: next(failures, None)
    ensure(authentik, want)
    assert ensure(authentik, want) == ()


def test_the_fake_answers_as_the_official_client_reads(authentik: Authentik, want: Wanted) -> None:
    """Every list and every object of it, by the models of the official client."""
    ensure(authentik, want)
    lists: Sequence[tuple[str, Any, str]] = (
        ("/flows/instances/", models.PaginatedFlowList, "slug"),
        ("/providers/proxy/", models.PaginatedProxyProviderList, "pk"),
        ("/core/applications/?superuser_full_list=true", models.PaginatedApplicationList, "slug"),
        ("/core/groups/", models.PaginatedGroupList, "pk"),
        ("/core/users/", models.PaginatedUserList, "pk"),
        ("/core/tokens/", models.PaginatedTokenList, "identifier"),
        ("/rbac/roles/", models.PaginatedRoleList, "pk"),
        ("/policies/bindings/", models.PaginatedPolicyBindingList, "pk"),
        ("/outposts/instances/", models.PaginatedOutpostList, "pk"),
    )
    singles = {models.PaginatedFlowList: models.Flow, models.PaginatedProxyProviderList: models.ProxyProvider}
    headers = {"Authorization": "Bearer the-administrators-token"}
    with httpx.Client(base_url=f"{authentik.url}/api/v3", headers=headers) as client:
        for path, model, key in lists:
            found = client.get(path).json()
            parsed = model.from_dict(found)
            assert parsed is not None
            assert len(parsed.results) == len(found["results"]) <= 20
            for each in found["results"][:3]:
                one = client.get(f"{path.partition('?')[0]}{each[key]}/").json()
                assert one == each
                if model in singles:
                    singles[model].from_dict(one)
        models.SessionUser.from_dict(client.get("/core/users/me/").json())
        models.Version.from_dict(client.get("/admin/version/").json())
        pk = embedded(authentik.state)["pk"]
        models.OutpostHealth.from_dict(client.get(f"/outposts/instances/{pk}/health/").json()[0])
        assert client.get("/core/groups").status_code == 404
        assert client.get("/core/groups/?page=3").status_code == 404
        # akadmin is in none of the groups: a list is what the caller may use, even for a superuser.
        assert client.get("/core/applications/").json()["results"] == []
