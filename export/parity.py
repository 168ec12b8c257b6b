"""Does a graph compute what the network computes? Measured where routing is decided clearly.

Routers have ties: where the k-th and the next expert are nearly equally likely, a rounding difference sends a token to
another expert, and the outputs differ by more than rounding. So inputs are searched, by seed, until the smallest
log-probability gap at the cut over all tokens and MoE blocks is at least MIN_GAP; there, the error must be small.

Axes: B rows, N tokens, E experts, K ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models import MultiTaskModel, heads
from ..models.encoder import Features
from ..models.moe import Routing
from ..runtime.bundles.manifest_parts import Parity
from .errors import ParityError
from .graphs import encoder_answers, head_reads

MIN_GAP = 2e-5
TOLERANCE = 1e-4
MAX_SEEDS = 400

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class EncoderCase:
    """Inputs of an encoder graph whose routing is clear, and what the network makes of them."""

    inputs: dict[str, Tensor]
    features: Features
    tasks: tuple[str, ...]
    seed: int
    min_gap: float | None


def routing_gap(routing: Routing, top_k: int) -> float:
    """Smallest log-probability gap between the last visited and the first unvisited expert, over all tokens."""
    if top_k >= routing.logits_BNE.shape[-1]:
        return float("inf")
    ordered = torch.log_softmax(routing.logits_BNE.double(), dim=-1).sort(dim=-1, descending=True).values
    return float((ordered[..., top_k - 1] - ordered[..., top_k]).min())


def example_image(model: MultiTaskModel, seed: int) -> Tensor:
    """A smooth random image [1, 3, H, W] of about unit variance; no patch is flat."""
    generator = torch.Generator().manual_seed(seed)
    height, width = model.config.image_hw
    coarse = torch.randn(1, 3, height // 8, width // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return smooth + 0.2 * torch.randn(1, 3, height, width, generator=generator)


@torch.no_grad()
def encoder_case(model: MultiTaskModel, width: float, rows: list[tuple[str, int]], seed: int = 0) -> EncoderCase:
    """A mixed batch: one row and one image for each (task, top_k), each image chosen so that its routing is clear.

    Raises:
        ParityError: no seed gave clear routing (a router whose experts are all equally likely, for example).
    """
    tasks, top_k_B = [task for task, _ in rows], torch.tensor([top_k for _, top_k in rows])
    if not model.config.moe_blocks:
        image, index = example_image(model, seed), torch.zeros(len(rows), dtype=torch.long)
        inputs = {"image": image, "image_index": index, **model.row_inputs(tasks, width)}
        return EncoderCase(inputs, model.encode(image, index, tasks, width=width), tuple(tasks), seed, None)
    images, gaps, used = [], [], seed
    for task, top_k in rows:
        used, gap = _clear_seed(model, width, task, top_k, used)
        images.append(example_image(model, used))
        gaps.append(gap)
        used += 1
    image, index = torch.cat(images), torch.arange(len(rows))
    inputs = {"image": image, "image_index": index, "top_k": top_k_B, **model.row_inputs(tasks, width)}
    features = model.encode(image, index, tasks, top_k_B, width=width)
    return EncoderCase(inputs, features, tuple(tasks), seed, min(gaps))


def _clear_seed(model: MultiTaskModel, width: float, task: str, top_k: int, first: int) -> tuple[int, float]:
    index, top_k_B = torch.zeros(1, dtype=torch.long), torch.tensor([top_k])
    for seed in range(first, first + MAX_SEEDS):
        features = model.encode(example_image(model, seed), index, [task], top_k_B, width=width)
        gap = min(routing_gap(routing, top_k) for routing in features.routings)
        if gap >= MIN_GAP:
            return seed, gap
    raise ParityError(f"task '{task}', width {width}: no input among {MAX_SEEDS} routes clearly (gap >= {MIN_GAP})")


def default_rows(model: MultiTaskModel) -> list[tuple[str, int]]:
    """Every task once, top_k going round from 1 to the largest, so that a batch mixes both."""
    largest = model.config.top_k if model.config.moe_blocks else 1
    return [(task, 1 + number % largest) for number, task in enumerate(model.config.task_names)]


@torch.no_grad()
def head_reference(
    model: MultiTaskModel,
    task: str,
    width: float,
    tokens: Tensor,
    detail: Tensor | None,
    levels: tuple[Tensor, ...] = (),
) -> Tensor:
    """The task's answer in its unit, by torch."""
    return heads.answer(model.config.task(task), model.raw(task, tokens, detail, width, levels))


def head_case(model: MultiTaskModel, task: str, case: EncoderCase) -> dict[str, Tensor]:
    """What a task's head reads of a case, for all of its rows, by name and in order."""
    given = encoder_answers(case.features)
    if case.features.detail_ICHW is not None:
        given["detail"] = case.features.detail_ICHW[case.inputs["image_index"]]
    return {name: given[name] for name in head_reads(model, task)}


def compare(answers: list[np.ndarray], references: list[Tensor], *, seed: int, min_gap: float | None) -> Parity:
    """Largest error over all outputs, against TOLERANCE * max(1, largest reference)."""
    worst, largest, passed = 0.0, 0.0, True
    for answer, reference in zip(answers, references, strict=True):
        expected = reference.numpy()
        error = float(np.abs(answer - expected).max()) if answer.shape == expected.shape else float("inf")
        scale = float(np.abs(expected).max())
        worst, largest = max(worst, error), max(largest, scale)
        passed = passed and error <= TOLERANCE * max(1.0, scale)  # NaN compares false, so it fails
    return Parity(worst, largest, min_gap, seed, TOLERANCE, passed)


def onnxruntime_runner(path: Path) -> Run:
    """Run a graph file by plain ONNX Runtime with its default optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: [np.asarray(value) for value in session.run(None, inputs)]
