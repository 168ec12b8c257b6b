"""What a network of torch answers, as the runtime would say it. Axes: I images, H height, W width."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..models import HeadConfig, MultiTaskModel
from ..models.heads import answer
from ..runtime.imaging.postprocess import finish

__all__ = ["network_answers"]


@torch.no_grad()
def network_answers(
    network: MultiTaskModel, image_I3HW: torch.Tensor, width: float = 1.0
) -> Iterator[tuple[HeadConfig, list[np.ndarray]]]:
    """Every task's answers, as a `Result` of the runtime holds them; the decoders are as wide as the encoder."""
    tasks, images = network.config.task_names, len(image_I3HW)
    index_B = torch.arange(images).repeat(len(tasks))
    output = network(image_I3HW, [task for task in tasks for _ in range(images)], width=width, image_index_B=index_B)
    for head in network.config.tasks:
        values = answer(head, output.raw[head.name]).numpy()
        yield head, [finish(head.kind, value) for value in values]
