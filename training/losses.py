"""What each task is punished for, on raw network outputs, in fp32, over valid pixels only.

| kind | loss |
|---|---|
| classes | cross-entropy, class weights frequency ** -0.25 |
| depth (log-metres) | mean abs log difference + squared metres over mean squared depth + 0.5 * gradients on 4 scales |
| normals | 1 - cosine + 0.1 * L1 of the unit vectors |
| probability | cross-entropy + dice; for `edge` the rarer side weighs sqrt(other / rarer) more |
| image_classes | cross-entropy, label smoothing 0.05; 255 is no class |

Axes: R rows of one task, K classes, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .tasks import IGNORED_CLASS, TASK_KINDS

__all__ = ["class_weights", "task_loss", "thinned", "valid_pixels"]

_CLASS_BALANCE = 0.25
_DEPTH_GRADIENT = 0.5
_DEPTH_SCALES = 4
_MAX_LOG_METRES = 3.5  # 33 m: keeps the square finite for a network that has learned nothing yet
_NORMALS_L1 = 0.1
_MAX_POSITIVE_WEIGHT = 8.0
_LABEL_SMOOTHING = 0.05


def class_weights(frequency_K: np.ndarray) -> Tensor:
    """Mild weights against rare classes drowning: frequency ** -0.25, mean 1 over all pixels; unseen classes get 1."""
    seen = frequency_K > 0
    weight = np.where(seen, np.maximum(frequency_K, 1e-5) ** -_CLASS_BALANCE, 1.0)
    weight[seen] /= (weight * frequency_K).sum()
    return torch.tensor(weight, dtype=torch.float32)


def valid_pixels(kind: str, target: Tensor) -> Tensor:
    """Which pixels of a dense target have a value, bool [R,1,H,W]."""
    if kind == "classes":
        return (target != IGNORED_CLASS)[:, None]
    if kind == "depth":
        return target > 0
    if kind == "normals":
        return (target * target).sum(1, keepdim=True) > 0.25
    return target != IGNORED_CLASS


def thinned(task: str, raw: Tensor, target: Tensor, stride: int, place: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Every `stride`-th pixel in both directions, from `place` (row, column) on: a quarter of the work at stride 2.

    With a random place per step the loss is the same on average. Image classes are left as they are.
    """
    if TASK_KINDS[task] == "image_classes" or stride == 1:
        return raw, target
    top, left = place
    return raw[..., top::stride, left::stride].contiguous(), target[..., top::stride, left::stride].contiguous()


def task_loss(task: str, raw: Tensor, target: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Mean loss of one task's rows, a scalar.

    Args:
        task: its name; what is computed depends on its kind, and for `edge` on the name.
        raw: the network's output before activation, any float type.
        target: see `slimpath.training.data.Batch`.
        weights: class weights of tasks that have classes, by task name; a missing one counts as all ones.
    """
    kind = TASK_KINDS[task]
    raw = raw.float()
    if kind == "image_classes":
        return _image_classes_loss(raw, target)
    if kind == "classes":
        return _classes_loss(raw, target, weights.get(task))
    valid = valid_pixels(kind, target)
    if kind == "depth":
        return _depth_loss(raw, target, valid)
    if kind == "normals":
        return _normals_loss(raw, target, valid)
    return _probability_loss(raw, target, valid, balance=task == "edge")


def _mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid entries; 0 with a gradient of 0 if there are none."""
    return (value * valid).sum() / valid.sum().clamp(min=1)


def _image_classes_loss(raw: Tensor, target: Tensor) -> Tensor:
    loss = F.cross_entropy(raw, target, label_smoothing=_LABEL_SMOOTHING, ignore_index=IGNORED_CLASS, reduction="sum")
    return loss / (target != IGNORED_CLASS).sum().clamp(min=1)


def _classes_loss(raw: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    loss = F.cross_entropy(raw, target, weight=weight, ignore_index=IGNORED_CLASS, reduction="sum")
    return loss / (target != IGNORED_CLASS).sum().clamp(min=1)


def _depth_loss(raw: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The gradient part is blind to a common scale; the two others tell the network the metres."""
    difference = raw - target.clamp(min=1e-3).log()
    # The log term alone learns medians, which lie below the means that RMSE asks for.
    squared_metres = (raw.clamp(max=_MAX_LOG_METRES).exp() - target).square()
    loss = _mean(difference.abs(), valid) + _mean(squared_metres, valid) / _mean(target.square(), valid).clamp(min=1e-6)
    gradient = raw.new_zeros(())
    for scale in range(_DEPTH_SCALES):
        part, there = difference[..., :: 2**scale, :: 2**scale], valid[..., :: 2**scale, :: 2**scale]
        across, down = part.diff(dim=-1).abs(), part.diff(dim=-2).abs()
        gradient = gradient + _mean(across, there[..., 1:] & there[..., :-1])
        gradient = gradient + _mean(down, there[..., 1:, :] & there[..., :-1, :])
    return loss + _DEPTH_GRADIENT * gradient / _DEPTH_SCALES


def _normals_loss(raw: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    unit = F.normalize(raw, dim=1, eps=1e-6)
    cosine = (unit * target).sum(1, keepdim=True)
    return _mean(1 - cosine, valid) + _NORMALS_L1 * _mean((unit - target).abs().sum(1, keepdim=True), valid)


def _probability_loss(raw: Tensor, target: Tensor, valid: Tensor, *, balance: bool) -> Tensor:
    truth = (target == 1).to(raw.dtype)
    loss = F.binary_cross_entropy_with_logits(raw, truth, reduction="none")
    if balance:
        positive = (truth * valid).sum()
        ratio = (valid.sum() - positive) / positive.clamp(min=1)
        # The square root: full balance makes edges several pixels thick, and thick edges score worse.
        loss = loss * torch.where(truth > 0, ratio.sqrt().clamp(1, _MAX_POSITIVE_WEIGHT), 1.0)
    return _mean(loss, valid) + _dice(raw.sigmoid(), truth, valid)


def _dice(probability: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """1 - dice overlap, per row, averaged; the 1 keeps rows with nothing in them finite and quiet."""
    probability, truth = (probability * valid).flatten(1), (truth * valid).flatten(1)
    overlap = 2 * (probability * truth).sum(1) + 1
    return (1 - overlap / (probability.sum(1) + truth.sum(1) + 1)).mean()
