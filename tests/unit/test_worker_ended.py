"""A worker that ended by itself is not forgotten when it is started again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

sys.path.append(str(ROOT / "stacks" / "prefect"))
from worker_ended import KILLED, Note, cause


def started(folder: Path) -> Note:
    note = Note(folder, "p", "w")
    note.begin()
    return note


def told(note: Note) -> str | None:
    event = note.event()
    return None if event is None else str(event["payload"]["cause"])


def test_a_stop_leaves_nothing_to_tell(tmp_path: Path) -> None:
    first = started(tmp_path)
    assert told(first) is None
    first.stopped()
    assert told(started(tmp_path)) is None


def test_what_ended_a_worker_is_told_by_its_successor_once(tmp_path: Path) -> None:
    started(tmp_path).ended("RuntimeError('no')")
    second = started(tmp_path)
    assert told(second) == "RuntimeError('no')"
    second.told()
    second.stopped()
    assert told(started(tmp_path)) is None


def test_one_that_was_killed_before_it_could_tell_passes_both_on(tmp_path: Path) -> None:
    started(tmp_path)
    assert told(started(tmp_path)) == KILLED
    event = started(tmp_path).event()
    assert event is not None
    assert event["resource"]["prefect.resource.id"] == "platform.worker.p.w"


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ({"boot": "then", "untold": None, "why": None}, None),
        ({"boot": "now", "untold": None, "why": None}, KILLED),
        ({"boot": "then", "untold": "it failed", "why": None}, "it failed"),
        ({"boot": "then", "untold": None, "why": "it failed"}, "it failed"),
    ],
)
def test_a_machine_that_ends_is_no_fault_of_the_worker(note: dict[str, str | None], why: str | None) -> None:
    assert cause(note, "now") == why


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    (tmp_path / "worker-w.json").write_text("{")
    assert told(started(tmp_path)) is None
    assert json.loads((tmp_path / "worker-w.json").read_text())["untold"] is None
