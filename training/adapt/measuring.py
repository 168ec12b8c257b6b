"""How good a network is at every width, on held-out pictures: before it was adapted, and after.

With labels the metrics are those of `slimpath eval`. Without, the original's own answers at full width take the place
of the truth: what is told then is how much of the original is left.

Axes: I images, S sums of a metric, R rows of a task, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...models import HeadConfig, MultiTaskModel
from ...runtime.bundles.preprocessing import Preprocessing
from ...runtime.imaging.preprocess import preprocess
from ..bootstrap import Bootstrap, Interval
from ..metrics import Metric, metric_for
from ..network_answers import network_answers
from ..placed import Placed
from ..sources import SampleSource
from ..tasks import IGNORED_CLASS
from .errors import WITHOUT_LABELS, AdaptError

__all__ = ["WidthRow", "check_judged", "measure"]

_IMAGES = 8  # of one call
Sums = dict[tuple[str, str, float], np.ndarray]  # (network, task, width) -> [I, S]


@dataclass(frozen=True)
class WidthRow:
    """A task at a width: the original cut down to it, and the adapted network. `gain` is by how much the second is
    better, above 0 whichever way the metric goes; intervals are 95 %, over pictures."""

    task: str
    width: float
    metric: str
    higher_is_better: bool
    before: Interval
    after: Interval
    gain: Interval


def check_judged(
    held: SampleSource, heads: Sequence[HeadConfig], size_hw: tuple[int, int], preprocessing: Preprocessing
) -> None:
    """Refuse labels that no value can be told by; it reads as many pictures as it takes, mostly one.

    Raises:
        AdaptError: a task has no label anywhere in `held`.
    """
    placed, left = Placed(held, [head.name for head in heads], size_hw, preprocessing), list(heads)
    for number in range(len(placed)):
        sample = placed[number]
        left = [head for head in left if not _says_something(head.kind, np.asarray(sample[head.name]))]
        if not left:
            return
    raise AdaptError(
        f"no pixel of the {len(held)} held-out pictures has a label of {', '.join(head.name for head in left)}",
        hint=WITHOUT_LABELS,
    )


def _says_something(kind: str, truth: np.ndarray) -> bool:
    """Whether a label has a value anywhere."""
    nothing = IGNORED_CLASS if kind in ("classes", "probability", "image_classes") else 0
    return bool((truth != nothing).any())


def measure(
    original: MultiTaskModel,
    adapted: MultiTaskModel,
    held: SampleSource,
    preprocessing: Preprocessing,
    widths: Sequence[float],
    known_as: Mapping[str, str],
    *,
    labelled: bool,
    advance: Callable[[int], None] = lambda images: None,
) -> list[WidthRow]:
    """Both networks at every width (decoders as wide as the encoder), on the same pictures, through torch in fp32.

    Args:
        original, adapted: with the same tasks at the same image size.
        known_as: the name of each task under which metrics know its kind.
        labelled: judged by labels, not by the original's answers at full width.
        advance: told how many more pictures are done.
    """
    judges = {head.name: metric_for(known_as[head.name], head.channels) for head in original.config.tasks}
    sums = measured_sums(
        {"before": original, "after": adapted}, held, preprocessing, widths, judges, labelled=labelled, advance=advance
    )
    bootstrap = Bootstrap(len(held))
    rows = []
    for task, metric in judges.items():
        for width in widths:
            before_IS, after_IS = (sums[name, task, width] for name in ("before", "after"))
            rows.append(
                WidthRow(
                    task=task,
                    width=width,
                    metric=metric.name,
                    higher_is_better=metric.higher_is_better,
                    before=bootstrap.interval(metric, before_IS),
                    after=bootstrap.interval(metric, after_IS),
                    gain=bootstrap.difference(metric, after_IS, before_IS),
                )
            )
    return rows


def measured_sums(
    networks: Mapping[str, MultiTaskModel],
    held: SampleSource,
    preprocessing: Preprocessing,
    widths: Sequence[float],
    judges: Mapping[str, Metric],
    *,
    labelled: bool,
    advance: Callable[[int], None] = lambda images: None,
) -> Sums:
    """What every picture adds to every metric, of each network at each width; the first network is the original.

    Args: see `measure`.
    """
    first = next(iter(networks.values()))
    heads, size_hw = first.config.tasks, first.config.image_hw
    placed = Placed(held, first.config.task_names if labelled else (), size_hw, preprocessing)
    found: dict[tuple[str, str, float], list[np.ndarray]] = {}
    for start in range(0, len(held), _IMAGES):
        samples = [placed[number] for number in range(start, min(start + _IMAGES, len(held)))]
        planes = [preprocess(sample["image"], size_hw, preprocessing)[0] for sample in samples]
        image_I3HW = torch.from_numpy(np.stack(planes))
        if labelled:
            truths = {head.name: [np.asarray(sample[head.name]) for sample in samples] for head in heads}
        else:
            truths = {
                head.name: [as_truth(head.kind, value) for value in values]
                for head, values in network_answers(first, image_I3HW, 1.0)
            }
        for name, network in networks.items():
            for width in widths:
                for head, values in network_answers(network, image_I3HW, width):
                    pairs = zip(values, truths[head.name], strict=True)
                    found.setdefault((name, head.name, width), []).extend(
                        judges[head.name].sums(value, truth) for value, truth in pairs
                    )
        advance(len(samples))
    return {key: np.array(rows) for key, rows in found.items()}


def as_truth(kind: str, value: np.ndarray) -> np.ndarray:
    """An answer in the form of a label."""
    if kind == "image_classes":
        return np.asarray(value.argmax())
    return (value > 0.5).astype(np.uint8) if kind == "probability" else value
