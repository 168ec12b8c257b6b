"""Which configurations a step trains: the sandwich rule (Yu & Huang 2019) over width, top_k and decoder width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .config import TrainConfig

__all__ = ["Pass", "draw_passes"]


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass: encoder width, experts per token (None: all the model has), decoder width."""

    width: float
    top_k: int | None
    decoder_width: float


def draw_passes(rng: np.random.Generator, widths: Sequence[float], max_top_k: int, config: TrainConfig) -> list[Pass]:
    """The passes of one step: always the widest first (it teaches the others), always the narrowest, and
    `config.random_widths` others.

    A pass other than the widest draws its top_k from 1 to `max_top_k` with probability `config.random_top_k`. A random
    pass draws its decoder width apart from its encoder width with probability `config.independent_decoder`, and the
    narrowest pass does with half of that, so that every combination is trained.

    Args:
        rng: source of the draws.
        widths: the model's widths, ascending, ending with 1.
        max_top_k: the model's top_k; 0 for a model without experts.
        config: the training's settings.
    """
    passes = [Pass(widths[-1], None, widths[-1])]
    if not config.sandwich:
        return passes

    def draw_top_k() -> int | None:
        return int(rng.integers(1, max_top_k + 1)) if max_top_k and rng.random() < config.random_top_k else None

    def draw_width(choices: Sequence[float]) -> float:
        return float(choices[int(rng.integers(len(choices)))])

    if len(widths) > 1:
        apart = rng.random() < config.independent_decoder / 2
        passes.append(Pass(widths[0], draw_top_k(), draw_width(widths) if apart else widths[0]))
    for _ in range(config.random_widths):
        if rng.random() < config.independent_decoder:
            passes.append(Pass(draw_width(widths), draw_top_k(), draw_width(widths)))
        else:
            width = draw_width(widths[1:-1] or widths)
            passes.append(Pass(width, draw_top_k(), width))
    return passes
