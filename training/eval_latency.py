"""How long each measured configuration takes on this machine: one picture, one task, a call of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import numpy as np

from ..runtime import Bundle, Engine
from ..runtime.backends.base import Backend
from ..runtime.planning.plan import Plan
from .eval_runner import Configuration

__all__ = ["CALLS", "measure_latencies"]

CALLS = 7
"""Of each configuration, after one that loads its graphs; the median counts."""


def measure_latencies(
    bundle: Bundle,
    chosen: Sequence[Configuration],
    backend: Backend,
    image_HWC: np.ndarray,
    size_hw: tuple[int, int],
) -> dict[Configuration, float]:
    """Median milliseconds from a decoded picture to a result.

    Args:
        backend: ONNX Runtime is given all usable threads instead, as requests have them; the others already have.
        image_HWC: uint8 RGB.
    """
    found: dict[Configuration, float] = {}
    used = "onnxruntime" if backend.name == "onnxruntime" else backend
    with Engine.load(bundle, backend=used, profile=None, tier="packed") as engine:
        for configuration in chosen:
            pins = [f"width={configuration.encoder_width}", f"decoder_width={configuration.decoder_width}"]
            pins += [f"top_k={configuration.top_k}"] if configuration.top_k else []
            pins += [f"precision={configuration.precision}"]
            plan = engine.plan([configuration.task], ",".join(pins), size=size_hw)
            engine(image_HWC, budget=plan)
            found[configuration] = median(_timed(engine, image_HWC, plan) for _ in range(CALLS))
    return found


def _timed(engine: Engine, image_HWC: np.ndarray, plan: Plan) -> float:
    started = perf_counter()
    engine(image_HWC, budget=plan)
    return 1000 * (perf_counter() - started)
