"""What comes back: task -> array, and how it came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from .errors import TaskError
from .imaging.preprocess import Placement
from .planning.planner import Plan
from .tasks import TaskSpec


@dataclass(frozen=True, eq=False)
class Result(Mapping[str, np.ndarray]):
    """The answers for one image.

    A mapping from task to array, H x W being the network plane, or the picture with output_size="original":
        classes        uint8 [H, W], class ids
        depth          float32 [H, W], metres
        normals        float32 [H, W, 3], unit vectors: x right, y up, z towards the viewer
        probability    float32 [H, W], in [0, 1]
        image_classes  float32 [K], probabilities

    Args:
        plan: the configuration that ran.
        timings_ms: decode, preprocess, encoder, heads, postprocess, total. In a batch the encoder's and the heads'
            are those of the whole batch, and so is the total.
        placement: where the picture lies in the network plane.
        image_size_hw: of the picture, upright.
        features: tokens float32 [rows, N, D] on request, one row per task in the plan's order (one row in all for
            a model without MoE blocks), else None.
        probabilities: class task -> softmax float32 [K, H, W] on request, at the network's size.
    """

    values_by_task: dict[str, np.ndarray]
    plan: Plan
    timings_ms: dict[str, float]
    placement: Placement
    image_size_hw: tuple[int, int]
    specs: dict[str, TaskSpec]
    features: np.ndarray | None = None
    probabilities: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, task: str) -> np.ndarray:
        return self.values_by_task[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_task)

    def __len__(self) -> int:
        return len(self.values_by_task)

    def __eq__(self, other: object) -> bool:
        return self is other  # a mapping compares its values, and arrays have no truth value

    def __hash__(self) -> int:
        return id(self)

    def label(self, task: str) -> tuple[str, float]:
        """The likeliest class of an image_classes task, and its probability.

        Raises:
            TaskError: the task was not requested, or has no single label.
        """
        if task not in self.values_by_task:
            raise TaskError(f"task {task!r} is not in this result", hint=f"it has {', '.join(self)}")
        spec = self.specs[task]
        if spec.kind != "image_classes":
            raise TaskError(f"task {task!r} has no single label: it is dense ({spec.kind})")
        best = int(np.argmax(self[task]))
        return (spec.classes[best] if spec.classes else str(best)), float(self[task][best])

    def __repr__(self) -> str:
        parts = ", ".join(f"{task} {value.dtype}{list(value.shape)}" for task, value in self.items())
        return f"Result({parts}; {self.plan}; {self.timings_ms.get('total', 0):.1f} ms)"
