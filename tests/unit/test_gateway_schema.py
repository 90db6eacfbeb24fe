"""stacks/gateway/schema.sql says what decides the schema of the gateway's database: the statements, not the text of the code."""

from __future__ import annotations

import os
from dataclasses import replace

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from prefect_platform.config import stack
from prefect_platform.gateway.schema import METADATA
from prefect_platform.planning import render
from prefect_platform.targets.compose import compose_file, names, schema

from .conftest import ROOT, TRAITS, Load


def _statements() -> str:
    made: list[ExecutableDDLElement] = []
    for table in METADATA.sorted_tables:
        indexes = sorted(table.indexes, key=lambda each: str(each.name))
        made += [CreateTable(table), *map(CreateIndex, indexes)]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    lines = (str(each.compile(dialect=dialect)).splitlines() for each in made)
    return "".join(
        "\n".join(line.expandtabs().rstrip() for line in each if line.strip()) + ";\n" for each in lines
    )


def test_the_file_has_the_statements_that_make_the_tables() -> None:
    file = ROOT / "stacks" / "gateway" / "schema.sql"
    if os.environ.get("PLATFORM_GOLDEN") == "write":
        file.write_text(_statements())
    assert file.read_text() == _statements()


def _decided_by(load: Load, code: bytes, statements: str) -> tuple[str, ...]:
    """What decides the schema, with that text in the code's and in the statements' file."""
    chosen = load(
        {"environments": {"x": {"target": "compose", "host": "h", "domain": "example.com"}}},
        env="x",
        root=ROOT,
    )
    gateway = stack.for_target(stack.read_all(ROOT), TRAITS["compose"])["gateway"]
    built = render.build(gateway, chosen, names.where(chosen, gateway.scope))
    module = "prefect_platform/gateway/schema.py"
    files = dict(built.files)
    files[module] += code
    files["schema.sql"] += statements.encode()
    changed = compose_file.finish(replace(built, files=files), names.frame(chosen, gateway))
    return schema.decided_by(changed.files["compose.yml"])


def test_a_comment_in_the_code_is_no_other_schema(load: Load) -> None:
    as_it_is = _decided_by(load, b"", "")
    assert as_it_is == _decided_by(load, b"\n# A comment.\n", "")
    assert as_it_is != _decided_by(load, b"", "ALTER TABLE gateway_tokens ADD COLUMN more VARCHAR(10);\n")
