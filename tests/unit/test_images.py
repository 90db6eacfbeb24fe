"""images.lock: what it pins, and what a damaged one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefect_platform.config import images
from prefect_platform.errors import ConfigError

DIGEST = "sha256:" + "0" * 64


def test_what_is_recorded_is_pinned_and_nothing_else(tmp_path: Path) -> None:
    assert images.read(tmp_path) == {}
    images.write(tmp_path, {"redis:8.10.2": DIGEST})
    digests = images.read(tmp_path)
    assert images.pinned("redis:8.10.2", digests) == f"redis:8.10.2@{DIGEST}"
    assert images.pinned("redis:8.10.3", digests) == "redis:8.10.3"
    given = f"redis:8.10.2@{'sha256:' + '1' * 64}"
    assert images.pinned(given, digests) == given, "what the settings say wins"
    assert images.tag(given) == "redis:8.10.2"


@pytest.mark.parametrize("text", ["redis:8.10.2: latest", "- redis", "a: {b: c}", "a: [", "1: sha256:00"])
def test_a_damaged_file_says_how_to_write_it_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "images.lock").write_text(text)
    with pytest.raises(ConfigError) as refused:
        images.read(tmp_path)
    assert "images.lock" in refused.value.reason
    assert "platform.pin-images" in refused.value.hint
