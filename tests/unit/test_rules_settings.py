"""Rules between settings: what would only fail while it is deployed is refused when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import prefect
import pytest
import yaml

from prefect_platform.config.rules import cross_check
from prefect_platform.errors import ConfigError

from .conftest import Load

PORTS = (
    ("gateway", "port"),
    ("gateway", "verifier_port"),
    ("gateway", "auth_port"),
    ("gateway", "ops_port"),
    ("prefect", "port"),
)


def _route(**more: Any) -> dict[str, Any]:
    return {"name": "a", "url": "http://127.0.0.1:9", "path": "/a", **more}


@pytest.mark.parametrize("first", range(len(PORTS)))
@pytest.mark.parametrize("second", range(len(PORTS)))
def test_two_ports_of_one_machine_are_not_one(load: Load, first: int, second: int) -> None:
    if first == second:
        return
    values: dict[str, Any] = {"gateway": {}, "prefect": {}}
    for section, key in (PORTS[first], PORTS[second]):
        values[section][key] = 28080
    with pytest.raises(ConfigError) as refused:
        cross_check(load(values))
    assert all(
        f"platform.{section}.{key}" in refused.value.message for section, key in (PORTS[first], PORTS[second])
    )


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ([_route(url="http://[::1")], "no valid host and port"),
        ([_route(url="http://127.0.0.1:99999")], "no valid host and port"),
        ([_route(url="http://127.0.0.1:0")], "no valid host and port"),
        ([_route(url="http://127.0.0.1:x")], "no valid host and port"),
        ([_route(), _route(name="b")], "has the host and path of 'a'"),
        ([_route(host="x.org"), _route(name="b", host="X.org")], "has the host and path of 'a'"),
        ([_route(path="/b/../prefect")], "'.' and '..' are not allowed"),
        ([_route(path="/./prefect")], "'.' and '..' are not allowed"),
        ([_route(path="/prefect/x")], "belong to the platform"),
        ([_route(name="metrics")], "is reserved"),
        ([_route(), _route(path="/b")], "is defined twice"),
    ],
)
def test_a_route_that_traefik_would_refuse_or_confuse(load: Load, routes: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"platform\.gateway\.routes") as refused:
        cross_check(load({"gateway": {"routes": routes}}))
    assert said in refused.value.message


def test_routes_of_one_path_on_two_hosts(load: Load) -> None:
    routes = [_route(host="x.org"), _route(name="b", host="y.org"), _route(name="c")]
    cross_check(load({"gateway": {"routes": routes}}))


def test_a_database_url_has_no_fragment(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"prefect\.database_url") as refused:
        cross_check(load({"prefect": {"database_url": "postgresql://u@db.example.com/x#hunter2"}}))
    assert "hunter2" not in f"{refused.value.message}{refused.value.hint}"


POOLS = """platform:
  prefect:
    work_pools:
      - name: default
      - name: images
        type: {type}
    workers: [{{name: default, pool: {pool}}}]
"""


def _prefects_types() -> set[str]:
    """As Prefect's own list of workers has them."""
    data = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    return {kind for library in json.loads(data.read_text()).values() for kind in library}


@pytest.mark.parametrize("kind", sorted(_prefects_types() - {"process"}))
def test_a_pool_whose_type_a_worker_of_ours_would_ignore(load: Load, tmp_path: Path, kind: str) -> None:
    """Our workers run processes: image and memory limit of another type would be ignored, and the run Completed."""
    (tmp_path / "invoke.yaml").write_text(text := POOLS.format(type=kind, pool="images"))
    with pytest.raises(
        ConfigError, match=r"^invoke\.yaml:6: platform\.prefect\.work_pools\[1\]\.type: "
    ) as refused:
        cross_check(load(yaml.safe_load(text)["platform"]))
    assert refused.value.exit_code == 2
    text = POOLS.format(type=kind, pool="default")
    cross_check(load(yaml.safe_load(text)["platform"]))


@pytest.mark.parametrize("pool", ["images", "default"])
def test_a_type_of_pool_that_prefect_does_not_know(load: Load, tmp_path: Path, pool: str) -> None:
    (tmp_path / "invoke.yaml").write_text(text := POOLS.format(type="proces", pool=pool))
    with pytest.raises(
        ConfigError, match=r"^invoke\.yaml:6: platform\.prefect\.work_pools\[1\]\.type: 'proces'"
    ):
        load(yaml.safe_load(text)["platform"])


def test_the_line_of_an_environments_pool(load: Load, tmp_path: Path) -> None:
    text = "platform:\n  environments:\n    other:\n      prefect:\n        work_pools:\n          - {name: default, type: docker}\n"
    (tmp_path / "invoke.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"^invoke\.yaml:6: platform\.environments\.other\.prefect\.work_pools\[0\]"
    ):
        cross_check(load(yaml.safe_load(text)["platform"], env="other"))
