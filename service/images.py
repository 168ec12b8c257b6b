"""An uploaded file becomes pixels: its header is read first, and what is not allowed is never handed to a decoder."""

from __future__ import annotations

from typing import Literal

from ..runtime.imaging.image_headers import read_header
from ..runtime.imaging.images import LoadedImage, load_image, quiet_cv2
from .errors import HttpError
from .settings import LimitSettings


def decode_image(
    data: bytes,
    limits: LimitSettings,
    *,
    plane_hw: tuple[int, int] | None = None,
    fit: Literal["letterbox", "stretch"] = "letterbox",
) -> LoadedImage:
    """Decode an image file. Takes milliseconds: call it in the pool.

    Args:
        plane_hw: as in `load_image`: a JPEG much larger than it is scaled down on the way.

    Raises:
        HttpError: 413, more pixels than `limits.max_image_mp`; 415, a format that is not among `limits.image_formats`.
        ImageError: not an image, cut off or damaged.
    """
    header = read_header(data)
    if header.format.lower() not in limits.image_formats:
        raise HttpError(
            415, "unsupported_image", f"{header.format} images are not read here",
            hint=f"send {' or '.join(name.upper() for name in limits.image_formats)}",
        )  # fmt: skip
    if header.width * header.height > limits.max_image_mp * 1e6:
        raise HttpError(
            413, "image_too_large", f"the image has {header.width} x {header.height} pixels, at most "
            f"{limits.max_image_mp:g} megapixels are read", hint="scale it down",
        )  # fmt: skip
    return load_image(data, plane_hw=plane_hw, fit=fit, max_pixels=limits.max_image_mp * 1e6)


def limit_opencv(threads: int) -> None:
    """Have OpenCV, in all of this process, work with no more threads than an engine call has. With a runner per core
    that is one: several calls resize at the same time."""
    cv2 = quiet_cv2()
    cv2.setNumThreads(min(threads, cv2.getNumThreads()))
