"""Encoder and heads as ONNX graphs, traced by torch's exporter at one width and one input size.

Axes: I images, B rows, R rows of one task, L MoE blocks, D embedding, E experts, N tokens, C detail channels.
"""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from ..models import MultiTaskModel
from ..models.encoder import Features, narrowed
from ..models.heads import answer
from ..models.model import run_encoder
from ..models.swin_config import STAGES, SwinConfig
from ..runtime.bundles import graph_names as names
from .lowering import expert_ffn_to_onnx

OPSET = 20  # the first with Gelu; ONNX Runtime 1.23 (Python 3.10, JetPack 6) runs it
_DYNAMIC = torch.export.Dim.DYNAMIC


class EncoderGraph(nn.Module):
    """What an encoder graph computes; parameter names start with `encoder.`, as in a checkpoint."""

    def __init__(self, model: MultiTaskModel, width: float) -> None:
        super().__init__()
        self.encoder = narrowed(model.encoder, width)

    def forward(
        self,
        image: Tensor,
        image_index: Tensor,
        top_k: Tensor | None = None,
        router: Tensor | None = None,
        router_bias: Tensor | None = None,
        adapter: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        brought = {names.ROUTER: router, names.ROUTER_BIAS: router_bias, names.ADAPTER: adapter}
        rows = {name: value for name, value in brought.items() if value is not None}
        return tuple(encoder_answers(run_encoder(self.encoder, image, image_index, top_k, rows)).values())


class HeadGraph(nn.Module):
    """What a head graph computes: raw values turned into the task's unit; names start with `heads.{task}.`."""

    def __init__(self, model: MultiTaskModel, task: str, width: float) -> None:
        super().__init__()
        self.head = model.config.task(task)
        self.heads = nn.ModuleDict({task: narrowed(model.heads[task], width)})

    def forward(
        self,
        tokens: Tensor,
        detail: Tensor | None = None,
        level_0: Tensor | None = None,
        level_1: Tensor | None = None,
        level_2: Tensor | None = None,
    ) -> Tensor:
        levels = tuple(level for level in (level_0, level_1, level_2) if level is not None)
        return answer(self.head, self.heads[self.head.name](tokens, detail, 1.0, levels))


def encoder_answers(features: Features) -> dict[str, Tensor]:
    """What an encoder graph puts out, by name and in order: see `encoder_outputs`."""
    answers = {names.TOKENS: features.tokens_BND}
    if features.detail_ICHW is not None:
        answers[names.DETAIL] = features.detail_ICHW
    return answers | {names.level(number): level for number, level in enumerate(features.levels)}


def head_reads(model: MultiTaskModel, task: str) -> list[str]:
    """Names of the encoder's outputs that a task's head reads, in order."""
    config, head = model.config, model.config.task(task)
    reads = [names.TOKENS]
    if config.detail_channels and head.decoder == "native" and not head.pooled:
        reads.append(names.DETAIL)
    if isinstance(config, SwinConfig) and not head.pooled:
        reads += [names.level(number) for number in range(STAGES - 1)]
    return reads


def encoder_inputs(model: MultiTaskModel, width: float, images: int = 2, rows: int = 3) -> dict[str, Tensor]:
    """Example inputs of an encoder graph, by name and in order."""
    config = model.config
    inputs = {"image": torch.randn(images, 3, *config.image_hw), "image_index": torch.arange(rows) % images}
    if config.moe_blocks:
        inputs["top_k"] = torch.full((rows,), config.top_k)
    tasks = [config.task_names[row % len(config.task_names)] for row in range(rows)]
    return inputs | {name: value.detach() for name, value in model.row_inputs(tasks, width).items()}


def head_inputs(model: MultiTaskModel, task: str, rows: int = 2) -> dict[str, Tensor]:
    """Example inputs of a head graph, by name and in order."""
    config = model.config
    height, side = config.image_hw
    if isinstance(config, SwinConfig):
        shapes = [(rows, math.prod(config.level_grid(level)), config.level_dim(level)) for level in range(STAGES)]
        inputs = {names.TOKENS: torch.randn(shapes[-1])}
        inputs |= {names.level(level): torch.randn(shape) for level, shape in enumerate(shapes[:-1])}
    else:
        inputs = {names.TOKENS: torch.randn(rows, 1 + math.prod(config.grid_hw), config.dim)}
    inputs[names.DETAIL] = torch.randn(rows, config.detail_channels, height // 4, side // 4)
    return {name: inputs[name] for name in head_reads(model, task)}


def encoder_outputs(model: MultiTaskModel) -> list[str]:
    """Names of what an encoder graph puts out."""
    config = model.config
    levels = config.levels if isinstance(config, SwinConfig) else 0
    shallow = [names.DETAIL] if config.detail_channels else []
    return [names.TOKENS, *shallow, *(names.level(number) for number in range(levels))]


def trace(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    dynamic: Any = None,
    *,
    lowerings: dict[Any, Callable[..., Any]] | None = None,
) -> ir.Model:
    """Trace a module in evaluation mode; the first axis of every input is dynamic unless `dynamic` says otherwise.

    Args:
        inputs: By the names that `forward` gives its arguments, in their order.
        dynamic: Input -> dynamic axes.
        lowerings: Of operators of our own; that of `slimpath::expert_ffn` is known.

    Raises:
        torch.onnx.OnnxExporterError: the module uses something the exporter cannot express.
    """
    shapes = dynamic if dynamic is not None else {name: {0: _DYNAMIC} for name in inputs}
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=shapes,
            custom_translation_table={torch.ops.slimpath.expert_ffn.default: expert_ffn_to_onnx, **(lowerings or {})},
            optimize=True,
            verbose=False,
        )
    assert program is not None
    return program.model


def trace_encoder(model: MultiTaskModel, width: float) -> ir.Model:
    """The encoder at one width and the model's image size."""
    return trace(EncoderGraph(model, width), encoder_inputs(model, width), encoder_outputs(model))


def trace_head(model: MultiTaskModel, task: str, width: float) -> ir.Model:
    """One task's head at one width and the model's image size."""
    return trace(HeadGraph(model, task, width), head_inputs(model, task), [task])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter's running commentary is kept from the user's terminal; its errors are not."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
