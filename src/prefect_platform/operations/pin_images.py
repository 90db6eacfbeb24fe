"""Images by digest."""

from __future__ import annotations

from prefect_platform.config import images
from prefect_platform.environment.opened import Platform
from prefect_platform.operations.bundles import render_stack
from prefect_platform.operations.stack_order import order
from prefect_platform.targets.protocol import Images, require


def pin_images(platform: Platform) -> dict[str, str]:
    """Record what the tags of all images mean now; returns image → digest of those that come from a registry. Raises ConfigError."""
    target = require(platform.target, Images)
    built = platform.target.adapt(
        [render_stack(platform, platform.stacks[name]) for name in order(platform, platform.main)]
    )
    used = {images.tag(str(each.spec["image"])) for one in built for each in one.services if each.spec}
    digests = target.digests(sorted(used))
    kept = {
        image: digest for image, digest in images.read(platform.settings.root).items() if image not in used
    }
    images.write(platform.settings.root, kept | digests)
    for image in sorted(used - set(digests)):
        platform.say(
            f"note: {image} was built on the host, not pulled: it has no digest and stays pinned by its tag"
        )
    return digests
