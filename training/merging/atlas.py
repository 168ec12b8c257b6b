"""aTLAS: coefficients of every block of every task vector, learned on labelled pictures.

    min over Lambda of  sum_t mean_(x, y) L_t(f_t(x; theta_0 + sum_k Lambda_k tau_k), y)

Lambda_k is diagonal, with one number per block of parameters: here, as in the published code, per tensor.
Source: Zhang et al. 2024, "Knowledge Composition using Task Vectors with Learned Anisotropic Scaling";
fredzzhang/atlas, src/composition.py (`WeightedImageEncoder`) and src/learn_task_addition.py: coefficients start at 0
and are not bound, AdamW at 1e-3 with a weight decay of 0.1, gradients no longer than 1, the sum of the tasks' losses.
The published run keeps the best of 20 passes by accuracy; this one ends after a number of steps.

The losses are those of this project's training (`training/losses.py`). Axes: I pictures, L tensors, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..losses import task_loss
from .assemble import assemble
from .config import MergeConfig
from .family import Family
from .learned import Blend, Learned, Steps, answers, learn
from .pictures import LabelledPictures
from .vectors import Tensors

__all__ = ["atlas"]


def atlas(
    family: Family,
    vectors: Sequence[Mapping[str, Tensor]],
    pictures: LabelledPictures,
    config: MergeConfig,
    progress: Steps = lambda done, loss: None,
) -> tuple[Tensors, Learned]:
    """What is added to the base, and the coefficients.

    Raises:
        MergeError: a loss is not finite.
    """
    tasks, weights = family.tasks, pictures.class_weights()
    blend = Blend(family.base_tensors(), vectors)
    model = assemble(family, family.base_tensors()).requires_grad_(False)
    coefficients_LT = blend.start(config.factor)
    optimizer = torch.optim.AdamW([coefficients_LT], lr=config.lr, weight_decay=config.weight_decay)

    def losses() -> Iterator[Tensor]:
        for images_I3HW, targets in pictures.labelled_batches(config.images, config.steps, config.seed):
            output = answers(model, blend.tensors(coefficients_LT), images_I3HW, tasks)
            yield torch.stack([task_loss(task, output.raw[task], targets[task], weights) for task in tasks]).sum()

    history = learn(coefficients_LT, optimizer, losses(), grad_clip=config.grad_clip, progress=progress)
    final_LT = coefficients_LT.detach()
    return blend.change(final_LT), Learned(blend.names, final_LT, tuple(history))
