"""Images by digest."""

from __future__ import annotations

from prefect_platform.config import images
from prefect_platform.environment.opened import Platform
from prefect_platform.errors import ConfigError
from prefect_platform.operations.bundles import build
from prefect_platform.operations.stack_order import order


def pin_images(platform: Platform) -> dict[str, str]:
    """Record what the tags of all images mean now; returns image → digest of those that come from a registry. Raises ConfigError."""
    built = [build(platform, platform.stacks[name]) for name in order(platform, "prefect")]
    used = {images.tag(str(each.spec["image"])) for one in built for each in one.services if each.spec}
    if not used:
        raise ConfigError(f"target {platform.settings.target} runs no images: there is nothing to pin")
    digests = platform.target.digests(sorted(used))
    kept = {
        image: digest for image, digest in images.read(platform.settings.root).items() if image not in used
    }
    images.write(platform.settings.root, kept | digests)
    for image in sorted(used - set(digests)):
        platform.say(
            f"note: {image} was built on the host, not pulled: it has no digest and stays pinned by its tag"
        )
    return digests
