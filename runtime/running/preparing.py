"""A request and its plan -> the picture as the encoder wants it."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from ..bundles.preprocessing import Preprocessing
from ..errors import SizeError
from ..imaging.images import MAX_PIXELS, load_image
from ..imaging.preprocess import preprocess
from ..planning.plan import Plan
from ..request import Request
from .batching import Prepared

MAX_OUTPUT_PIXELS = 16_000_000  # six tasks of a 16-megapixel picture are half a gigabyte of float32


@dataclass(frozen=True)
class PixelLimits:
    """What pictures and outputs may have, in pixels."""

    image: float = MAX_PIXELS
    output: float = MAX_OUTPUT_PIXELS


def prepare(index: int, request: Request, plan: Plan, preprocessing: Preprocessing, limits: PixelLimits) -> Prepared:
    """Read the picture, fit and normalise it.

    Args:
        index: the request's place among those that came with it.

    Raises:
        ImageError: the picture cannot be used.
        SizeError: no such output size, or an output that is too large.
    """
    if request.output_size not in ("network", "original"):
        raise SizeError(f'output_size must be "network" or "original", got {request.output_size!r}')
    started = perf_counter()
    image = load_image(request.image, plane_hw=plan.size_hw, fit=preprocessing.fit, max_pixels=limits.image)
    decoded = perf_counter()
    pixels = image.size_hw[0] * image.size_hw[1]
    if request.output_size == "original" and pixels > limits.output:
        raise SizeError(
            f"outputs of {pixels / 1e6:.1f} megapixels were asked for, at most {limits.output / 1e6:.1f} are made",
            hint='use output_size="network", or load the engine with a larger max_output_pixels',
        )
    plane_CHW, placement = preprocess(image.rgb, plan.size_hw, preprocessing, image_hw=image.size_hw)
    timings_ms = {"decode": (decoded - started) * 1e3, "preprocess": (perf_counter() - decoded) * 1e3}
    return Prepared(index, request, plan, plane_CHW, placement, timings_ms)
