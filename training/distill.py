"""Narrow passes learn from what the widest pass says about the same rows (its outputs detached).

Axes: R rows of one task, K classes, H height, W width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .losses import _mean, valid_pixels
from .tasks import TASK_KINDS

__all__ = ["distill_loss"]


def distill_loss(task: str, raw: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """How far a narrow pass is from the widest one, a scalar, over the target's valid pixels.

    Kullback-Leibler divergence for classes and probabilities, mean abs difference of log-depth, 1 - cosine of normals.

    Args:
        task: its name.
        raw: output of the narrow pass before activation.
        teacher: output of the widest pass before activation, no gradient.
        target: the ground truth, for its valid pixels only.
    """
    kind = TASK_KINDS[task]
    raw, teacher = raw.float(), teacher.float()
    if kind == "image_classes":
        return F.kl_div(raw.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean")
    valid = valid_pixels(kind, target)
    if kind == "classes":
        divergence = F.kl_div(raw.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="none")
        return _mean(divergence.sum(1, keepdim=True), valid)
    if kind == "depth":
        return _mean((raw - teacher).abs(), valid)
    if kind == "normals":
        return _mean(1 - F.cosine_similarity(raw, teacher, dim=1, eps=1e-6)[:, None], valid)
    soft = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(teacher, soft, reduction="none")
    return _mean(F.binary_cross_entropy_with_logits(raw, soft, reduction="none") - entropy, valid)
