"""Encoder and heads as ONNX graphs, traced by torch's exporter at one width and one input size.

Axes: I images, B rows, R rows of one task, L MoE blocks, D embedding, E experts, N tokens, C detail channels.
"""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from ..models import MultiTaskModel
from ..models.encoder import Features, narrowed
from ..models.heads import answer, run_head
from ..models.model import run_encoder
from ..models.swin import SwinEncoder
from ..models.swin_config import STAGES, SwinConfig
from ..runtime.bundles import graph_names as names
from .lowering import expert_ffn_to_onnx, one_or_all_to_onnx

OPSET = 20  # the first with Gelu; ONNX Runtime 1.23 (Python 3.10, JetPack 6) runs it
_DYNAMIC = torch.export.Dim.DYNAMIC
_LOWERINGS: dict[Any, Callable[..., Any]] = {
    torch.ops.slimpath.expert_ffn.default: expert_ffn_to_onnx,
    torch.ops.slimpath.one_or_all.default: one_or_all_to_onnx,
}


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
    """What a head graph computes: raw values turned into the task's unit; names start with `heads.{task}.`, or with
    `decoder_experts.` where all tasks share them."""

    def __init__(self, model: MultiTaskModel, task: str, width: float) -> None:
        super().__init__()
        self.head = model.config.task(task)
        self.heads = nn.ModuleDict({task: narrowed(model.heads[task], width)})
        self.decoder_experts = narrowed_experts(model, [task], width)

    def forward(
        self,
        tokens: Tensor,
        detail: Tensor | None = None,
        level_0: Tensor | None = None,
        level_1: Tensor | None = None,
        level_2: Tensor | None = None,
    ) -> Tensor:
        levels = tuple(level for level in (level_0, level_1, level_2) if level is not None)
        values = run_head(self.heads[self.head.name], self.decoder_experts, tokens, detail, 1.0, levels)
        return answer(self.head, values)


def narrowed_experts(model: MultiTaskModel, tasks: Sequence[str], width: float) -> nn.Module | None:
    """The experts that decoders share, if one of these tasks' reads them."""
    read = any(model.config.task(task).decoder == "taskexpert" for task in tasks)
    return narrowed(model.decoder_experts, width) if read and model.decoder_experts is not None else None


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
    if config.detail_channels and head.slimmable and not head.pooled:
        reads.append(names.DETAIL)
    if head.decoder == "taskexpert" or (isinstance(config, SwinConfig) and not head.pooled):
        reads += [names.level(number) for number in range(config.levels)]
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
        shape = rows, 1 + math.prod(config.grid_hw), config.dim
        inputs = {names.TOKENS: torch.randn(shape)}
        inputs |= {names.level(level): torch.randn(shape) for level in range(config.levels)}
    inputs[names.DETAIL] = torch.randn(rows, config.detail_channels, height // 4, side // 4)
    return {name: inputs[name] for name in head_reads(model, task)}


def encoder_outputs(model: MultiTaskModel) -> list[str]:
    """Names of what an encoder graph puts out."""
    config = model.config
    shallow = [names.DETAIL] if config.detail_channels else []
    return [names.TOKENS, *shallow, *(names.level(number) for number in range(config.levels))]


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
        lowerings: Of operators of our own, beside those that are known.

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
            custom_translation_table={**_LOWERINGS, **(lowerings or {})},
            optimize=True,
            verbose=False,
        )
    assert program is not None
    return program.model


def trace_encoder(model: MultiTaskModel, width: float) -> ir.Model:
    """The encoder at one width and the model's image size."""
    graph = EncoderGraph(model, width)
    if isinstance(graph.encoder, SwinEncoder) and model.config.folded:
        graph.encoder.thin = True
    traced = trace(graph, encoder_inputs(model, width), encoder_outputs(model))
    _forget_repeated_shapes(traced)
    return traced


def _forget_repeated_shapes(model: ir.Model) -> None:
    """What is taken by `one_or_all` may have one entry for all rows, where the exporter believes in one per row: a
    library that plans its memory by that would be wrong."""
    for node in model.graph:
        if node.op_type == "Gather" and _chooses_rows(node.inputs[1]):
            node.outputs[0].shape = None


def _chooses_rows(value: ir.Value | None) -> bool:
    """Whether a value is what `one_or_all` made of the index of the rows."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in ("Slice", "Reshape"):
        return False
    source = node.inputs[0]
    if node.op_type == "Slice":
        return source is not None and source.name == names.IMAGE_INDEX
    return _chooses_rows(source)


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
