"""Rep-MTL: regularise how much each task's loss depends on the shared representation.

Source: Wang, Li, Xu 2025, "Rep-MTL: Unleashing the Power of Representation-level Task Saliency for Multi-Task Learning"
(ICCV 2025, arXiv 2507.21049), equations 3 to 10. With Z the tokens that the heads read:

    S_t = dL_t / dZ                                                              (3)
    mean over channels, then P_{i,t} = |S_{i,t}| / sum_k |S_{i,k}|               (4, 5)
    L_tsr = mean over places i of  - sum_t P_{i,t} log P_{i,t}                   (6)
    M_{b,t} = S_{b,t} S_{b,t}^T over places, [C, C]                              (7)
    A_b = mean of S_b over places, [C, T];  anchor A_b A_b^T                     (8)
    L_csa = mean over samples b of - log( exp(sim(a_b, m_{b,t}) / tau) / sum_{k != b} exp(sim(a_b, a_k) / tau) )   (9)

Where the paper leaves a choice: the positive pairs of a sample (one for each of its tasks) are averaged, and tau, which
the paper does not name, is a setting. Where slimpath differs: a row holds one task, and a router sends the tokens of
each task through its own experts. So Z is each row's tokens, and the tasks of a sample are those whose rows share its
picture (`data.rows_per_image`; with 1 there is nothing to compare, and both losses are 0).

Axes: I images, T tasks of each image, P places (patches), C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["alignment_loss", "by_image", "entropy_loss", "saliencies"]

_TINY = 1e-12
_NOTHING = 1e-30


def saliencies(losses: Mapping[str, Tensor], tokens_BND: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
    """Gradient of each row's own task loss by its patch tokens, [B, P, C], itself differentiable (eq. 3).

    Args:
        losses: loss of each task, computed from `tokens_BND`; those of tasks without rows are left out.
        tokens_BND: tokens of every row, class token first.
        rows: which rows work on each task.
    """
    saliency = torch.zeros_like(tokens_BND)
    for task, loss in losses.items():
        if task not in rows:  # labels of images, and no row of its own in this step
            continue
        (gradient,) = torch.autograd.grad(loss, tokens_BND, create_graph=True)
        saliency = saliency.index_add(0, rows[task], gradient[rows[task]])
    return saliency[:, 1:].float()


def entropy_loss(saliency_ITPC: Tensor) -> Tensor:
    """Task-specific saliency regulation (eq. 4 to 6), a scalar: small where every place matters to one task only."""
    strength_ITP = _to_unit_range(saliency_ITPC.mean(dim=-1).abs(), (0, 1, 2))
    share_ITP = strength_ITP / strength_ITP.sum(dim=1, keepdim=True).clamp(min=_TINY)
    return -(share_ITP * share_ITP.clamp(min=_TINY).log()).sum(dim=1).mean()


def alignment_loss(saliency_ITPC: Tensor, temperature: float) -> Tensor:
    """Cross-task saliency alignment (eq. 7 to 9), a scalar; 0 for fewer than two images, which have no negatives."""
    images = saliency_ITPC.shape[0]
    if images < 2:
        return saliency_ITPC.sum() * 0.0
    of_task = _to_unit_range(saliency_ITPC, (2, 3))
    affinity_ITX = F.normalize((of_task.transpose(2, 3) @ of_task).flatten(2), dim=-1, eps=_TINY)
    mean_ICT = _to_unit_range(_to_unit_range(saliency_ITPC, (1, 2, 3)).mean(dim=2).transpose(1, 2), (1, 2))
    anchor_IX = F.normalize((mean_ICT @ mean_ICT.transpose(1, 2)).flatten(1), dim=-1, eps=_TINY)
    positive_IT = (anchor_IX[:, None] * affinity_ITX).sum(dim=-1) / temperature
    negative_II = anchor_IX @ anchor_IX.T / temperature
    itself = torch.eye(images, dtype=torch.bool, device=negative_II.device)
    others_I = negative_II.masked_fill(itself, -torch.inf).logsumexp(dim=1)
    return (others_I[:, None] - positive_IT).mean()


def by_image(saliency_BPC: Tensor, image_index_B: Tensor) -> Tensor | None:
    """Rows sorted to their images, [I, T, P, C]; None where images have no two rows, or unequally many."""
    counts_I = torch.bincount(image_index_B)
    images, tasks = len(counts_I), int(counts_I[0])
    if tasks < 2 or bool((counts_I != tasks).any()):
        return None
    order = torch.argsort(image_index_B, stable=True)
    return saliency_BPC[order].unflatten(0, (images, tasks))


def _to_unit_range(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Values over the largest of their group, which counts as a constant; a group of zeros stays as it is.

    Both losses are blind to a common factor: neither they nor their gradients change. But saliencies are tiny (a mean
    loss by one of many thousands of values), their squares vanish in fp32, and one over such a square overflows.
    """
    largest = values.detach().abs().amax(dim=dims, keepdim=True)
    return values / torch.where(largest > _NOTHING, largest, torch.ones_like(largest))
