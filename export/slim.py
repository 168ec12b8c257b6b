"""From a traced graph to a bundle's graph: weights by reference, no metadata, short names, value_info kept.

Files are almost all exporter metadata before this. `value_info` stays: without it loading takes two to three times
as long, because ONNX Runtime infers the shapes again.
"""

from pathlib import Path

import onnx_ir as ir

from .errors import GraphBuildError
from .weights import WEIGHTS_FILE, WeightsFile, stored_name

#: Constants up to this size may live in a graph; anything larger must be a reference into the weights.
INLINE_LIMIT_BYTES = 1024


def refer_to_weights(model: ir.Model, weights: WeightsFile, size_hw: tuple[int, int]) -> int:
    """Replace every named parameter by a reference into the weights file; returns the bytes referred to.

    Raises:
        GraphBuildError: a parameter is no prefix of its stored tensor, or a large constant is not a parameter
            (the exporter folded or transposed a weight into a private copy).
    """
    referred = 0
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        assert tensor is not None
        stored = stored_name(name, size_hw)
        if stored in weights.offsets:
            offset, length = weights.prefix_of(stored, tensor.numpy())
            value.const_value = ir.ExternalTensor(
                WEIGHTS_FILE,
                offset,
                length,
                tensor.dtype,
                name=name,
                shape=ir.Shape(tensor.numpy().shape),
                base_dir=weights.path.parent,
            )
            referred += length
        elif tensor.nbytes > INLINE_LIMIT_BYTES:
            raise GraphBuildError(
                f"the graph holds a private copy of {tensor.nbytes} bytes, '{name}' {tuple(tensor.shape)}"
            )
    return referred


def strip(model: ir.Model) -> None:
    """Remove what only a debugger of the exporter reads, and shorten the names of inner values and nodes."""
    model.producer_name, model.producer_version, model.doc_string = "slimpath", None, None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    kept = {value.name for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values())}
    count = 0
    for node in model.graph.all_nodes():
        node.name = node.doc_string = None
        node.metadata_props.clear()
        if node.op_type == "Split" and len(node.inputs) > 1 and node.inputs[1] is not None:
            node.attributes.pop("num_outputs", None)
        for value in node.outputs:
            value.metadata_props.clear()
            if value.name not in kept:
                value.name, count = f"v{count}", count + 1
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def save(model: ir.Model, path: Path) -> None:
    """Write the graph; tensors that are references stay references."""
    ir.save(model, str(path))
