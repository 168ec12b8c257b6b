"""Where graph runs lie, for the interpolation and for the choice of what to measure next. See `Spot`."""

from __future__ import annotations

from math import log2

from ..bundles.graph_spec import GraphSpec
from .profile_model import Spot


def encoder_spot(graph: GraphSpec, *, images: int, rows: int, top_k: int) -> Spot:
    """One run of an encoder. Four kinds of FLOPs: a call itself, per image, per row, per row and expert."""
    cost = graph.cost
    return Spot(
        terms=(
            1.0,
            images * cost.flops_image / 1e9,
            rows * cost.flops_row / 1e9,
            rows * top_k * cost.flops_row_per_expert / 1e9,
        ),
        flops_terms=3,
        numbers=(log2(graph.width), log2(rows), log2(images), log2(max(top_k, 1)), _log_area(graph.size_hw)),
        labels=(graph.precision,),
    )


def head_spot(graph: GraphSpec, *, rows: int, channels: int) -> Spot:
    """One run of a head: its FLOPs, and the pixels that it writes, which are bound by memory."""
    pixels = rows * graph.size_hw[0] * graph.size_hw[1] * channels
    return Spot(
        terms=(1.0, rows * graph.cost.flops_row / 1e9, pixels / 1e6),
        flops_terms=1,
        numbers=(log2(graph.width), log2(rows), _log_area(graph.size_hw)),
        labels=(graph.task or "", graph.precision),
    )


def preprocess_spot(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> Spot:
    """Fitting a picture: what is read where it is resized at all, what is written."""
    read = 0 if image_hw == size_hw else image_hw[0] * image_hw[1]
    written = size_hw[0] * size_hw[1]
    return Spot(
        terms=(1.0, read / 1e6, written / 1e6),
        flops_terms=0,
        numbers=(_log_area(image_hw), _log_area(size_hw)),
        labels=("as it is" if image_hw == size_hw else "resized",),
    )


def postprocess_spot(task: str, size_hw: tuple[int, int], channels: int) -> Spot:
    """Turning a head's output into an array of a Result."""
    pixels = size_hw[0] * size_hw[1]
    return Spot((1.0, pixels * channels / 1e6), 0, (_log_area(size_hw),), (task,))


def _log_area(size_hw: tuple[int, int]) -> float:
    return log2(size_hw[0] * size_hw[1])
