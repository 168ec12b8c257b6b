"""Everything of a request that is known before the engine runs: its plan, its pixels, the forms of its answer.

Runs in the pool. What cannot be answered is refused here, before it takes a place in the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from ...runtime.request import Request
from ..errors import HttpError
from ..images import decode_image
from .formats import choose_formats
from .schemas import Options

if TYPE_CHECKING:
    from ...runtime.imaging.images import LoadedImage
    from ...runtime.planning.plan import Plan
    from ..model import Model
    from ..settings import LimitSettings

PICTURE_PX = 1024  # longer side that pictures for people are drawn in, at most


@dataclass(frozen=True)
class Prepared:
    """A request that can be run.

    Args:
        plan: what it would get without load and deadline.
        formats: task -> format of its output.
    """

    request: Request
    image: LoadedImage
    plan: Plan
    formats: dict[str, str]
    decode_ms: float


def prepare(model: Model, data: bytes, options: Options, limits: LimitSettings) -> Prepared:
    """Plan, check, decode.

    Args:
        data: the image file.

    Raises:
        HttpError, SlimpathError: the request cannot be answered, see `problems`.
    """
    engine = model.engine
    plan = engine.plan(options.tasks, options.budget, size=options.size, strict=options.strict)
    formats = choose_formats(options.format, plan.tasks, engine.tasks)
    _check_response(options, formats)
    drawn = options.panel or "png" in formats.values()
    # Pictures show the photograph, in more pixels than the network sees.
    plane_hw = (max(plan.size_hw[0], PICTURE_PX), max(plan.size_hw[1], PICTURE_PX)) if drawn else plan.size_hw
    started = perf_counter()
    image = decode_image(data, limits, plane_hw=plane_hw, fit=model.bundle.manifest.preprocessing.fit)
    decode_ms = (perf_counter() - started) * 1e3
    if options.output_size == "original":
        _check_output(image, sum(engine.tasks[task].kind != "image_classes" for task in formats), limits)
    return Prepared(engine_request(image, options), image, plan, formats, decode_ms)


def engine_request(image: LoadedImage | bytes, options: Options) -> Request:
    """The part of the options that is the engine's."""
    return Request(
        image,
        tasks=options.tasks,
        budget=options.budget,
        size=options.size,
        output_size=options.output_size,
        strict=options.strict,
    )


def _check_response(options: Options, formats: dict[str, str]) -> None:
    if options.response == "raw" and not options.panel and len(formats) > 1:
        raise HttpError(
            422, "raw_needs_one", f'response "raw" is the bytes of one output, and {len(formats)} tasks are asked for',
            hint='name one task, ask for the panel, or take response "zip"',
        )  # fmt: skip


def _check_output(image: LoadedImage, dense_tasks: int, limits: LimitSettings) -> None:
    megapixels = image.size_hw[0] * image.size_hw[1] * dense_tasks / 1e6
    if megapixels > limits.max_output_mp:
        raise HttpError(
            422, "output_too_large", f"outputs of {megapixels:.1f} megapixels were asked for, at most "
            f"{limits.max_output_mp:g} are made", hint='take output_size "network", fewer tasks or a smaller picture',
        )  # fmt: skip
