"""AdaMerging: layer-wise coefficients that make the merged model sure of its answers on unlabelled pictures.

    min over lambda of  sum_t mean_x H(f_t(x; theta_0 + sum_k lambda_k^l tau_k^l)),  lambda clamped to [0, 1]

Source: Yang et al. 2024, "AdaMerging: Adaptive Model Merging for Multi-Task Learning" (layer-wise);
EnnengYang/AdaMerging, src/main_layer_wise_adamerging.py: one coefficient per tensor and task, all starting at 0.3,
Adam at 1e-3, 500 steps, 16 pictures a task and step. "++" (src/main_layer_wise_adamergingpp.py) takes the vectors that
TIES trimmed, with the numbers that lost the election set to 0.

Here the tasks look at the same pictures, so the backbone runs once for all of them.
Axes: I pictures, L tensors, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ...models import MultiTaskModel
from .assemble import assemble
from .config import MergeConfig
from .entropy import ENTROPY_KINDS, uncertainty
from .errors import MergeError
from .family import Family
from .learned import Blend, Learned, Steps, answers, learn
from .pictures import Pictures
from .ties import ties_split
from .vectors import Tensors

__all__ = ["adamerging", "clamped"]


def clamped(coefficients_LT: Tensor) -> Tensor:
    """What the coefficients count as: at least 0, at most 1."""
    return coefficients_LT.clamp(0.0, 1.0)


def adamerging(
    family: Family,
    vectors: Sequence[Mapping[str, Tensor]],
    pictures: Pictures,
    config: MergeConfig,
    progress: Steps = lambda done, loss: None,
) -> tuple[Tensors, Learned]:
    """What is added to the base, and the coefficients.

    Raises:
        MergeError: no task has an entropy and `regression` is "none", or a loss is not finite.
    """
    kinds = {head.name: head.kind for head in family.config.tasks}
    watched = [task for task, kind in kinds.items() if kind in ENTROPY_KINDS or config.regression == "fine-tune"]
    if not watched:
        raise MergeError(
            f"expected a task whose answers have an entropy, got {', '.join(kinds)}",
            hint="keep them near their fine-tunes with --regression fine-tune, or take another method",
        )
    blend = Blend(family.base_tensors(), ties_split(vectors, config.keep) if config.ties_first else vectors)
    model = assemble(family, family.base_tensors()).requires_grad_(False)
    raw_LT = blend.start(config.factor)
    optimizer = torch.optim.Adam([raw_LT], lr=config.lr)

    def losses() -> Iterator[Tensor]:
        for images_I3HW in pictures.batches(config.images, config.steps, config.seed):
            output = answers(model, blend.tensors(clamped(raw_LT)), images_I3HW, watched)
            parts = []
            for task in watched:
                known = None
                if kinds[task] not in ENTROPY_KINDS:
                    known = _of_fine_tune(family.member_of(task).model, task, images_I3HW)
                parts.append(uncertainty(kinds[task], output.raw[task], known))
            yield torch.stack(parts).sum()

    history = learn(raw_LT, optimizer, losses(), progress=progress)
    final_LT = clamped(raw_LT.detach())
    return blend.change(final_LT), Learned(blend.names, final_LT, tuple(history))


@torch.no_grad()
def _of_fine_tune(model: MultiTaskModel, task: str, images_I3HW: Tensor) -> Tensor:
    return model(images_I3HW, [task] * len(images_I3HW)).raw[task]
