"""Configuration-Invariant Knowledge Distillation: the encoder says the same at every width and top_k.

Source: Aich et al. 2023, "Efficient Controllable Multi-Task Architectures" (arXiv 2308.11744): a loss that makes the
backbone's representation invariant under the width configuration, the widest encoder being the teacher. The text with
its exact distance was not at hand. The form chosen here, for features z_1 .. z_F of a configuration c (tokens of every
row, detail of every image, tokens of every shallower level):

    L(c) = 1/F * sum_f mean( ( n(z_f(c)) - n(z_f(widest)) )^2 ),   n(z) = (z - mean z) / sqrt(var z + 1e-6)

with mean and (biased) variance over the channels of one token or pixel, and no gradient into the widest. Why
normalised: the heads normalise what they read in just this way, so only what they can see is held still. The residual
stream is never slimmed, so no projection is needed between widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.encoder import Features

__all__ = ["invariance_loss", "representation"]

EPS = 1e-6


def representation(features: Features) -> list[Tensor]:
    """What is compared, channels last: tokens [B, N, D], detail [I, H, W, C] and tokens of levels, as far as there."""
    detail = [] if features.detail_ICHW is None else [features.detail_ICHW.movedim(1, -1)]
    return [features.tokens_BND, *detail, *features.levels]


def invariance_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """How far a configuration's features are from the widest one's, a scalar; the teacher gets no gradient."""
    parts = [F.mse_loss(_standardised(mine), _standardised(theirs.detach())) for mine, theirs in zip(student, teacher)]
    return torch.stack(parts).mean()


def _standardised(features: Tensor) -> Tensor:
    return F.layer_norm(features.float(), features.shape[-1:], eps=EPS)
