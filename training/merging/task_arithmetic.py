"""Task arithmetic: theta = theta_0 + lambda * sum_t tau_t.

Source: Ilharco et al. 2023, "Editing models with task arithmetic", section 2 (addition); the default of 0.3 is that of
EnnengYang/AdaMerging, src/main_task_arithmetic.py. With lambda = 1 / T this is the plain average of the fine-tunes
(Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .vectors import Tensors

__all__ = ["task_arithmetic"]


def task_arithmetic(vectors: Sequence[Mapping[str, Tensor]], scale: float) -> Tensors:
    """What is added to the base: the sum of the task vectors, times `scale`."""
    first, *others = vectors
    total = {name: value.clone() for name, value in first.items()}
    for vector in others:
        for name, value in total.items():
            value += vector[name]
    return {name: scale * value for name, value in total.items()}
