"""One self-contained ONNX file for one configuration and task set, preprocessing included: plain ONNX Runtime and
OpenVINO run it, no runtime of ours needed.

Input `image`: uint8 [height, width, 3], RGB, any size. Outputs: one per task at network size (classes: int64 ids
[H, W]; depth metres [H, W]; normals [3, H, W]; probability [H, W]; image classes: probabilities [K]), and `content_box`
int64 [4]: top, left, height, width of the picture inside the network's plane (the rest is letterbox padding).
"""

import json
import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from ..models import MultiTaskModel, heads, load_checkpoint
from ..models.encoder import Features, narrowed
from ..models.fold import folded
from ..models.model import run_encoder
from ..models.widths import kept
from . import describe, parity, slim
from .bundle import check_widths
from .errors import ExportError, ParityError, TargetExistsError
from .graphs import narrowed_experts, trace
from .int8 import quantise
from .int8_bundle import check_distance
from .int8_graph import to_int8
from .letterbox import Letterbox
from .lowering import PORTABLE
from .report import ExportReport, Progress, no_progress

CONTENT_BOX = "content_box"


class Standalone(nn.Module):
    """A whole configuration as one network: letterbox, encoder with what the tasks bring built in, heads, units."""

    def __init__(self, model: MultiTaskModel, letterbox: Letterbox, tasks: list[str], width: float, top_k: int) -> None:
        super().__init__()
        self.letterbox, self.tasks, self.config = letterbox, tasks, model.config
        self.encoder = narrowed(model.encoder, width)
        self.heads = nn.ModuleDict({task: narrowed(model.heads[task], width) for task in tasks})
        self.decoder_experts = narrowed_experts(model, tasks, width)
        self.top_k = top_k
        brought = model.row_inputs(tasks, width)
        self.brought = tuple(brought)
        for name, value in brought.items():
            self.register_buffer(name, value.detach())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        plane, box = self.letterbox(image)
        features = self.encode(plane)
        answers = [self._answer(task, row, features) for row, task in enumerate(self.tasks)]
        return (*answers, box)

    def encode(self, plane_13HW: Tensor) -> Features:
        """Features of one image, a row per task."""
        rows = len(self.tasks)
        index = torch.zeros(rows, dtype=torch.long)
        top_k = torch.full((rows,), self.top_k) if self.config.moe_blocks else None
        brought = {name: getattr(self, name) for name in self.brought}
        return run_encoder(self.encoder, plane_13HW, index, top_k, brought)

    def _answer(self, task: str, row: int, features: Features) -> Tensor:
        tokens, levels = features.tokens_BND[row : row + 1], tuple(level[row : row + 1] for level in features.levels)
        head = self.config.task(task)
        raw = heads.run_head(self.heads[task], self.decoder_experts, tokens, features.detail_ICHW, 1.0, levels)
        values = heads.answer(head, raw)[0]
        if head.kind == "classes":
            return values.argmax(dim=0)
        return values if head.kind in ("normals", "image_classes") else values[0]


def export_standalone(
    checkpoint: Path | str,
    out_file: Path | str,
    *,
    tasks: list[str] | None = None,
    width: float = 1.0,
    top_k: int | None = None,
    size: tuple[int, int] | None = None,
    int8: bool = False,
    check: bool = True,
    progress: Progress = no_progress,
) -> ExportReport:
    """Write one ONNX file of one configuration of a checkpoint; it appears whole or not at all.

    Args:
        int8: The encoder's large products in int8, by operators that ONNX Runtime alone has.

    Raises:
        TargetExistsError: `out_file` exists.
        ExportError: a task, width, top_k or size that the model does not have.
        ParityError: the file differs from the network (nothing is left behind).
    """
    model, metadata = load_checkpoint(checkpoint)
    model = folded(model)
    out = Path(out_file)
    if out.exists():
        raise TargetExistsError(f"{out} exists; remove it or choose another name")
    chosen, top_k = _checked(model, tasks, width, top_k)
    size_hw: tuple[int, int] = size or model.config.image_hw
    if size_hw != model.config.image_hw:
        model = model.resized(size_hw)
    spec = describe.preprocessing(metadata)
    progress("tracing", 0, 2)
    network = Standalone(model, Letterbox(spec, size_hw), chosen, width, top_k).eval()
    example = torch.randint(0, 256, (size_hw[0] + 8, size_hw[1] + 24, 3), dtype=torch.uint8)
    auto = torch.export.Dim.DYNAMIC
    axes = {"image": {0: auto, 1: auto}}
    traced = trace(network, {"image": example}, [*chosen, CONTENT_BOX], dynamic=axes, lowerings=PORTABLE)
    if int8:
        to_int8(traced, quantise)
    slim.strip(traced)
    traced.metadata_props["slimpath"] = json.dumps(_label(model, metadata, chosen, width, top_k))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        ir.save(traced, str(temporary))
        progress("checking", 1, 2)
        worst = (_distance(network, temporary) if int8 else largest_difference(network, temporary)) if check else None
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    progress("done", 2, 2)
    return ExportReport(out, out.stat().st_size, out.stat().st_size, 1, worst, True)


def _checked(model: MultiTaskModel, tasks: list[str] | None, width: float, top_k: int | None) -> tuple[list[str], int]:
    config = model.config
    chosen = list(dict.fromkeys(tasks or config.task_names))
    unknown = [task for task in chosen if task not in config.task_names]
    if unknown:
        raise ExportError(f"unknown task {', '.join(unknown)}; this model has {', '.join(config.task_names)}")
    kept(1, width)
    check_widths(model, [width])
    largest = config.top_k if config.moe_blocks else 1
    if top_k is not None and not 1 <= top_k <= largest:
        raise ExportError(f"top_k must lie in 1..{largest}, got {top_k}")
    return chosen, top_k or largest


def _label(model: MultiTaskModel, metadata: dict, tasks: list[str], width: float, top_k: int) -> dict:
    specs = {spec.name: spec for spec in describe.task_specs(model.config, metadata)}
    classes = {task: list(specs[task].classes) for task in tasks if specs[task].classes}
    size, licence = list(model.config.image_hw), metadata.get("licence", "unknown")
    return {"tasks": tasks, "classes": classes, "width": width, "top_k": top_k, "size_hw": size, "licence": licence}


@torch.no_grad()
def largest_difference(network: Standalone, path: Path) -> float:
    """Largest error over all float outputs on clear images of two sizes; class ids may differ where scores tie."""
    run = parity.onnxruntime_runner(path)
    worst = 0.0
    for seed, (height, width) in enumerate([network.letterbox.size_hw, (97, 143)]):
        image = _clear_image(network, height, width, 1000 * seed)
        answers = run({"image": image.numpy()})
        for task, answer, reference in zip(network.tasks, answers, network(image)):
            if reference.dtype == torch.int64:
                differing = float(np.mean(answer != reference.numpy()))
                if differing > 1e-3:
                    raise ParityError(f"'{task}' differs from the network in {differing:.2%} of the pixels")
                continue
            result = parity.compare([answer], [reference], seed=seed, min_gap=None)
            worst = max(worst, result.max_abs_error)
            if not result.passed:
                raise ParityError(f"'{task}' differs from the network by {result.max_abs_error:.2e}")
    return worst


@torch.no_grad()
def _distance(network: Standalone, path: Path) -> float:
    """Of an int8 file, which rounds: the largest RMS difference of a task with float outputs, as a share of its RMS."""
    image = _clear_image(network, *network.letterbox.size_hw, 0)
    answers, references = parity.onnxruntime_runner(path)({"image": image.numpy()}), network(image)
    found = [
        check_distance(f"'{task}'", answer, reference.numpy())
        for task, answer, reference in zip(network.tasks, answers, references)
        if reference.dtype != torch.int64
    ]
    return max(found, default=0.0)


def _clear_image(network: Standalone, height: int, width: int, seed: int) -> Tensor:
    """A random picture for which no routing decision of any task is near a tie."""
    for number in range(seed, seed + parity.MAX_SEEDS):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, 3, 1 + height // 8, 1 + width // 8, generator=generator)
        picture = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        image = (picture[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
        if not network.config.moe_blocks:
            return image
        features = network.encode(network.letterbox(image)[0])
        if min(parity.routing_gap(routing, network.top_k) for routing in features.routings) >= parity.MIN_GAP:
            return image
    raise ParityError(f"no picture among {parity.MAX_SEEDS} routes clearly (gap >= {parity.MIN_GAP})")
