"""The int8 encoders of a bundle: made from the traced fp32 ones, compared with them before they are let in."""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir
import torch

from ..models import MultiTaskModel
from ..runtime.bundles.graph_spec import GraphSpec
from . import parity, slim
from .errors import ExportError, ParityError
from .graphs import encoder_outputs
from .int8 import PRECISION, Int8Weight, of_widest
from .int8_graph import to_int8
from .weights import WeightsFile

#: Largest RMS difference from the fp32 encoder, as a share of its RMS. Trained encoders stay below 0.1; what exceeds
#: this is no rounding any more.
LARGEST_DIFFERENCE = 0.5


def write_int8_encoder(
    traced: ir.Model,
    fp32: GraphSpec,
    int8: dict[str, Int8Weight],
    weights: WeightsFile,
    *,
    model: MultiTaskModel,
    check: bool,
) -> GraphSpec:
    """Write the int8 version of an encoder that lies written in the bundle's folder already; `traced` is changed.

    What it costs in accuracy is for `slimpath eval` to say; here it is only asked whether it computes the same network.

    Raises:
        ExportError: nothing in it can be in int8.
        ParityError: it is too far from the fp32 graph.
    """
    if not to_int8(traced, of_widest(int8)):
        raise ExportError(f"{fp32.file} has no product that could be computed in int8")
    referred = slim.refer_to_weights(traced, weights, fp32.size_hw)
    slim.strip(traced)
    path = weights.path.with_name(f"{Path(fp32.file).stem}-{PRECISION}.onnx")
    slim.save(traced, path)
    if check:
        _check(model, fp32.width, weights.path.with_name(fp32.file), path)
    data = path.read_bytes()
    return msgspec.structs.replace(
        fp32,
        file=path.name,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        weight_bytes=referred,
        parity=None,
        precision=PRECISION,
    )


def _check(model: MultiTaskModel, width: float, fp32: Path, int8: Path) -> None:
    rows = parity.default_rows(model)
    inputs = {"image": torch.cat([parity.example_image(model, seed) for seed in range(len(rows))])}
    inputs["image_index"] = torch.arange(len(rows))
    if model.config.moe_blocks:
        inputs["top_k"] = torch.tensor([top_k for _, top_k in rows])
    inputs |= model.row_inputs([task for task, _ in rows], width)
    feeds = {name: value.detach().numpy() for name, value in inputs.items()}
    reference, answers = (parity.onnxruntime_runner(path)(feeds) for path in (fp32, int8))
    for name, answer, expected in zip(encoder_outputs(model), answers, reference, strict=True):
        check_distance(f"{int8.name}: '{name}'", answer, expected)


def check_distance(what: str, answer: np.ndarray, expected: np.ndarray) -> float:
    """RMS of the difference as a share of the RMS of what was expected.

    Raises:
        ParityError: more than rounding explains, or not a number.
    """
    distance = float(np.sqrt(np.mean((answer - expected) ** 2) / max(float(np.mean(expected**2)), 1e-12)))
    if not distance <= LARGEST_DIFFERENCE:  # NaN, too
        raise ParityError(f"{what} differs from fp32 by {distance:.2f} of its RMS")
    return distance
