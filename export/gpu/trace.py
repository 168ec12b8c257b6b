"""Encoder and heads as ONNX graphs in which every shape is a number, in float32 and with int32 indices.

Axes: I images, B rows, R rows of one task.
"""

from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn

from ...models import MultiTaskModel
from ...runtime.bundles import graph_names as names
from ..graphs import EncoderGraph, HeadGraph, encoder_inputs, encoder_outputs, head_inputs, trace
from ..torch_backend import shared_narrow
from .experts import prepare_for_gpu_
from .lowering import LOWERINGS

#: Operators whose indices may be int32, so that a cast to int64 before them is dropped: input that holds the indices.
_INDEX_INPUT = {"Gather": 1, "GatherElements": 1, "ScatterElements": 1}


@dataclass(frozen=True)
class Job:
    """One graph to make: an encoder (`task` None) for I images and B rows, or a task's head for R rows (both equal)."""

    size_hw: tuple[int, int]
    width: float
    top_k: int
    task: str | None
    images: int
    rows: int

    def file(self, precision: str) -> str:
        size = f"{self.size_hw[0]}x{self.size_hw[1]}-w{self.width:g}"
        if self.task is not None:
            return f"gpu-head-{self.task}-{size}-r{self.rows}-{precision}.onnx"
        top_k = f"-k{self.top_k}" if self.top_k else ""
        return f"gpu-encoder-{size}{top_k}-i{self.images}r{self.rows}-{precision}.onnx"


class GpuEncoderGraph(EncoderGraph):
    """What an encoder graph computes, its top-k fixed."""

    def __init__(self, model: MultiTaskModel, width: float, top_k: int) -> None:
        nn.Module.__init__(self)
        encoder = shared_narrow(model.encoder, 1.0)  # its tensors are the model's, but for the stacked ones
        prepare_for_gpu_(encoder, top_k)
        self.encoder = shared_narrow(encoder, width)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # called by names; there is no top-k to name
        self,
        image: Tensor,
        image_index: Tensor,
        router: Tensor | None = None,
        router_bias: Tensor | None = None,
        adapter: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        # The graph fixes the top-k (`experts.gpu_route`): what stands here in its place is not read.
        return super().forward(image, image_index, image_index, router, router_bias, adapter)


def gpu_encoder_inputs(model: MultiTaskModel, job: Job) -> dict[str, Tensor]:
    """Example inputs of an encoder graph, by name and in order; rows go round the images and the tasks."""
    inputs = encoder_inputs(model, job.width, images=job.images, rows=job.rows)
    inputs.pop(names.TOP_K, None)
    return inputs | {names.IMAGE_INDEX: inputs[names.IMAGE_INDEX].to(torch.int32)}


def trace_job(model: MultiTaskModel, job: Job) -> ir.Model:
    """The graph of a job, in float32.

    Args:
        model: At the job's input size, its adapters folded.

    Raises:
        ExportError: too many (token, expert) pairs for exact counting.
    """
    if job.task is None:
        module: nn.Module = GpuEncoderGraph(model, job.width, job.top_k)
        inputs, outputs = gpu_encoder_inputs(model, job), encoder_outputs(model)
    else:
        module, outputs = HeadGraph(model, job.task, job.width), [job.task]
        inputs = head_inputs(model, job.task, rows=job.rows)
    graph = trace(module, inputs, outputs, dynamic={name: {} for name in inputs}, lowerings=LOWERINGS)
    keep_indices_short(graph)
    return graph


def keep_indices_short(model: ir.Model) -> None:
    """Take away casts of indices from int32 to int64, and every node that nothing reads."""
    for node in list(model.graph):
        place = _INDEX_INPUT.get(node.op_type)
        index = node.inputs[place] if place is not None else None
        cast = index.producer() if index is not None else None
        if place is None or cast is None or cast.op_type != "Cast" or cast.inputs[0] is None:
            continue
        if cast.inputs[0].dtype == ir.DataType.INT32:
            node.replace_input_with(place, cast.inputs[0])
    remove_unread(model)


def remove_unread(model: ir.Model) -> None:
    """Remove nodes and initialisers whose values nothing reads."""
    outputs = set(model.graph.outputs)
    for node in reversed(list(model.graph)):
        if not any(value in outputs or value.uses() for value in node.outputs):
            model.graph.remove(node, safe=True)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and value not in outputs:
            del model.graph.initializers[name]
