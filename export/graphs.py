"""Encoder and heads as ONNX graphs, traced by torch's exporter at one width and one input size.

Axes: I images, B rows, R rows of one task, L MoE blocks, D embedding, E experts, N tokens, C detail channels.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from ..models import MultiTaskModel, activate
from ..models.encoder import narrowed
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
    ) -> tuple[Tensor, ...]:
        features = self.encoder(image, image_index, top_k, router, router_bias)
        return (features.tokens_BND,) if features.detail_ICHW is None else (features.tokens_BND, features.detail_ICHW)


class HeadGraph(nn.Module):
    """What a head graph computes: raw values turned into the task's unit; names start with `heads.{task}.`."""

    def __init__(self, model: MultiTaskModel, task: str, width: float) -> None:
        super().__init__()
        self.task, self.kind = task, model.config.task(task).kind
        self.heads = nn.ModuleDict({task: narrowed(model.heads[task], width)})

    def forward(self, tokens: Tensor, detail: Tensor | None = None) -> Tensor:
        return activate(self.kind, self.heads[self.task](tokens, detail))


def encoder_inputs(model: MultiTaskModel, images: int = 2, rows: int = 3) -> dict[str, Tensor]:
    """Example inputs of an encoder graph, by name and in order."""
    config = model.config
    inputs = {"image": torch.randn(images, 3, *config.image_hw), "image_index": torch.arange(rows) % images}
    if config.moe_blocks:
        blocks = len(config.moe_blocks)
        inputs["top_k"] = torch.full((rows,), config.top_k)
        inputs["router"] = torch.randn(rows, blocks, config.dim, config.experts) * 0.1
        inputs["router_bias"] = torch.zeros(rows, blocks, config.experts)
    return inputs


def head_inputs(model: MultiTaskModel, task: str, rows: int = 2) -> dict[str, Tensor]:
    """Example inputs of a head graph, by name and in order."""
    config = model.config
    height, width = config.grid_hw
    inputs = {"tokens": torch.randn(rows, 1 + height * width, config.dim)}
    if config.detail_channels and not config.task(task).pooled:
        inputs["detail"] = torch.randn(rows, config.detail_channels, config.image_hw[0] // 4, config.image_hw[1] // 4)
    return inputs


def encoder_outputs(model: MultiTaskModel) -> list[str]:
    return ["tokens", "detail"] if model.config.detail_channels else ["tokens"]


def trace(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], dynamic: Any = None) -> ir.Model:
    """Trace a module in evaluation mode; the first axis of every input is dynamic unless `dynamic` says otherwise.

    Raises:
        torch.onnx.OnnxExporterError: the module uses something the exporter cannot express.
    """
    shapes = dynamic if dynamic is not None else tuple({0: _DYNAMIC} for _ in inputs)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=shapes,
            custom_translation_table={torch.ops.slimpath.expert_ffn.default: expert_ffn_to_onnx},
            optimize=True,
            verbose=False,
        )
    assert program is not None
    return program.model


def trace_encoder(model: MultiTaskModel, width: float) -> ir.Model:
    """The encoder at one width and the model's image size."""
    return trace(EncoderGraph(model, width), encoder_inputs(model), encoder_outputs(model))


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
