"""What AdaMerging minimises without labels, by the kind of a task.

- classes, image_classes: entropy of the softmax, -sum_k p_k log p_k, mean over pixels and pictures (Yang et al. 2024,
  AdaMerging; EnnengYang/AdaMerging, src/main_layer_wise_adamerging.py, `softmax_entropy`).
- probability: entropy of the two outcomes of the sigmoid, which is the same with two classes.
- depth, normals: a number has no entropy. What entropy is good for is to rank merged models as the true loss would,
  without labels; the answer of the task's own fine-tune does that, too: mean distance of log-depth (or metres, where a
  head predicts them), and 1 - cosine. Both are 0 where the merged model answers as the fine-tune does, as the entropy
  is near 0 where it is sure.

Axes: I pictures, K channels, H and W sides.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import MergeError

__all__ = ["ENTROPY_KINDS", "binary_entropy", "distance", "softmax_entropy", "uncertainty"]

ENTROPY_KINDS = frozenset({"classes", "image_classes", "probability"})


def softmax_entropy(logits: Tensor) -> Tensor:
    """Entropy over axis 1, in nats, of every pixel or picture."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def binary_entropy(logits: Tensor) -> Tensor:
    """Entropy of the sigmoid's two outcomes, in nats, of every number."""
    return F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none")


def distance(kind: str, raw: Tensor, of_fine_tune: Tensor) -> Tensor:
    """How far raw answers are from those of the task's fine-tune, of every pixel [I, H, W]."""
    if kind == "depth":
        return (raw - of_fine_tune).abs().squeeze(1)
    if kind == "normals":
        return 1 - F.cosine_similarity(raw, of_fine_tune, dim=1, eps=1e-6)
    raise MergeError(f"answers of kind '{kind}' have an entropy and need no fine-tune")


def uncertainty(kind: str, raw: Tensor, of_fine_tune: Tensor | None = None) -> Tensor:
    """What one task adds to the loss, a scalar.

    Args:
        kind: of the task's answers.
        raw: the merged model's output before activation.
        of_fine_tune: the fine-tune's on the same pictures, where `kind` has no entropy.
    """
    raw = raw.float()
    if kind == "probability":
        return binary_entropy(raw).mean()
    if kind in ENTROPY_KINDS:
        return softmax_entropy(raw).mean()
    if of_fine_tune is None:
        raise MergeError(f"answers of kind '{kind}' have no entropy and need those of a fine-tune")
    return distance(kind, raw, torch.as_tensor(of_fine_tune).float()).mean()
