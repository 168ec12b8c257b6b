"""Image files -> pixels, under the server's limits. Runs in the thread pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..images import decode_image
from .tensors import Image

if TYPE_CHECKING:
    from ...runtime.bundles.manifest import Manifest
    from ..settings import LimitSettings


def decode_images(images: list[Image], manifest: Manifest, limits: LimitSettings) -> list[np.ndarray]:
    """Pixels of each image; arrays stay as they are.

    A large JPEG is scaled down while it is decoded, as far as the largest input size of the model allows.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ImageError, HttpError: as `decode_image`.
    """
    return [image if isinstance(image, np.ndarray) else _decode(image, manifest, limits) for image in images]


def _decode(data: bytes, manifest: Manifest, limits: LimitSettings) -> np.ndarray:
    height = max(size_hw[0] for size_hw in manifest.sizes)
    width = max(size_hw[1] for size_hw in manifest.sizes)
    return decode_image(data, limits, plane_hw=(height, width), fit=manifest.preprocessing.fit).rgb
