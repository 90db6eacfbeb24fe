"""images.lock: the digest of each image's tag when it was recorded. Committed, so that every host runs the same bytes.

A tag can move to other contents; a digest cannot. Images in the file run by tag and digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from prefect_platform.errors import ConfigError

_NAME = "images.lock"
_HEAD = "# Written by ./invoke platform.pin-images: the digest of each tag. Commit it; delete a line to follow its tag again.\n"
_LENGTH = len("sha256:") + 64


def read(root: Path) -> dict[str, str]:
    """Image with its tag → digest; empty without the file. Raises ConfigError."""
    file = root / _NAME
    if not file.exists():
        return {}
    try:
        found = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{_NAME}: not YAML: {error}", "./invoke platform.pin-images writes it") from None
    for image, digest in found.items() if isinstance(found, dict) else [("", None)]:
        if not (isinstance(digest, str) and digest.startswith("sha256:") and len(digest) == _LENGTH):
            raise ConfigError(f"{_NAME}: {image}: not a digest", "./invoke platform.pin-images rewrites it")
    return dict(found)


def write(root: Path, digests: Mapping[str, str]) -> None:
    part = root / f".{_NAME}.tmp"
    part.write_text(_HEAD + yaml.safe_dump(dict(digests), sort_keys=True, width=300))
    part.replace(root / _NAME)


def pinned(image: str, digests: Mapping[str, str]) -> str:
    """The image with its digest, if one is recorded and none is given."""
    return f"{image}@{digests[image]}" if image in digests else image


def tag(image: str) -> str:
    """The image without a digest."""
    return image.partition("@")[0]
