"""Is a fresh engine what was asked for? Its types, and its answers beside those of ONNX Runtime on the same graph."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..bundles import graph_names as names
from ..errors import BackendError
from ..profiling.parity_cases import example_plane
from ..running.adapters import Adapters
from ..running.routing import Routers
from .engine_file import Checked
from .names import ICudaEngine, TrtModule

if TYPE_CHECKING:
    from ..backends.base import Session
    from ..bundles.bundle import Bundle
    from ..bundles.gpu_spec import GpuGraphSpec
    from ..bundles.graph_spec import GraphSpec
    from .engine import Engine

# fp32: the largest error over max(1, the largest value), as for every backend (design, section 7). Below, rounding
# sends some tokens to other experts, so that no bound holds for each value: the root mean square of the error over
# that of the values.
TOLERANCES = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.15}
SEEDS = 3
_NARROW = {"fp32": {"FP16", "BF16", "INT8", "FP8"}, "fp16": {"BF16", "INT8", "FP8"}, "int8": {"BF16", "FP8"}}
# How the inspector's "Format/Datatype" names types; versions differ.
_TYPES = {
    "FP16": r"\b(FP16|Half)\b",
    "BF16": r"\b(BF16|BFloat16)\b",
    "FP8": r"\bFP8\b",
    "INT8": r"\bInt8\b",
    "FP32": r"\b(FP32|Float)\b",
}


def check_engine(bundle: Bundle, spec: GpuGraphSpec, engine: Engine, reference: Session, name: str) -> Checked:
    """Compare an engine with the reference on SEEDS inputs; all but one of them must pass.

    One may fail: where two experts are equally likely, a rounding difference sends a token elsewhere. That happens in
    2 of 325 batches, so an engine that computes right practically never fails twice.

    Args:
        reference: a session of the very same graph, called `name`.

    Raises:
        BackendError: types or answers are not those of the graph.
    """
    _require_ports(spec, engine)
    tolerance = TOLERANCES[spec.precision]
    errors: list[tuple[float, float, float]] = []  # as the tolerance counts, absolute, largest value
    for seed in range(SEEDS):
        feeds = example_feeds(bundle, spec, seed)
        expected, answers = reference.run(feeds), engine.run(feeds)
        errors.append(_error(spec, answers, expected))
    second_worst = sorted(errors)[-2]
    if second_worst[0] > tolerance:  # infinite where an answer is no number
        raise BackendError(
            f"{spec.file}: the engine does not give the graph's answers: error {second_worst[0]:.2e}, "
            f"allowed {tolerance:.0e} ({'of the largest value' if spec.precision == 'fp32' else 'root mean square'})",
            hint=f"the reference is {name} on the same graph; nothing was kept",
        )
    return Checked(name, second_worst[1], second_worst[2], tolerance)


def layer_types(trt: TrtModule, engine: ICudaEngine) -> dict[str, int]:
    """How many of the engine's tensors are of each type, as far as the inspector says."""
    inspector = engine.create_engine_inspector()
    try:
        told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    except (ValueError, TypeError):
        return {}
    found: Counter[str] = Counter()
    for layer in told.get("Layers", []) if isinstance(told, dict) else []:
        for port in layer.get("Outputs", []) if isinstance(layer, dict) else []:
            words = str(port.get("Format/Datatype") or port.get("Format") or "") if isinstance(port, dict) else ""
            found.update([kind for kind, pattern in _TYPES.items() if re.search(pattern, words)][:1])
    return dict(found)


def require_precision(spec: GpuGraphSpec, found: Mapping[str, int]) -> None:
    """Refuse an engine that computes in less than the graph says.

    Raises:
        BackendError: naming the types.
    """
    narrow = sorted(_NARROW[spec.precision] & set(found))
    if narrow:
        raise BackendError(
            f"{spec.file}: is {spec.precision}, and the engine has layers in {', '.join(narrow)}",
            hint="this build of TensorRT does not keep the graph's types; nothing was kept",
        )


def example_feeds(bundle: Bundle, spec: GpuGraphSpec, seed: int) -> dict[str, np.ndarray]:
    """Inputs of a GPU graph: smooth noise for pictures, the tasks' own routers and adapters, noise for tokens."""
    rng = np.random.default_rng(seed)
    tasks = bundle.manifest.task_names
    of_rows = [tasks[row % len(tasks)] for row in range(spec.rows)]
    feeds: dict[str, np.ndarray] = {}
    for port in spec.inputs:
        if port.name == names.IMAGE:
            value: Any = np.stack([example_plane(spec.size_hw, seed * 16 + image) for image in range(spec.images)])
        elif port.name == names.IMAGE_INDEX:
            value = np.arange(spec.rows) * spec.images // spec.rows
        elif port.name == names.ROUTER:
            value = Routers(bundle).stack(of_rows)[0]
        elif port.name == names.ROUTER_BIAS:
            value = Routers(bundle).stack(of_rows)[1]
        elif port.name == names.ADAPTER:
            value = Adapters(bundle).stack(cast("GraphSpec", spec), of_rows)  # it reads adapter_rows alone
        else:
            value = rng.standard_normal(port.shape)
        feeds[port.name] = np.ascontiguousarray(value, dtype=port.dtype)
    return feeds


def _require_ports(spec: GpuGraphSpec, engine: Engine) -> None:
    wanted = {port.name: (port.shape, port.dtype) for port in (*spec.inputs, *spec.outputs)}
    found = {name: (host.shape, host.dtype.name) for name, host in (engine.inputs | engine.outputs).items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise BackendError(
                f"{spec.file}: {name} is {wanted.get(name)} in the manifest and {found.get(name)} in the engine"
            )


def _error(
    spec: GpuGraphSpec, answers: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> tuple[float, float, float]:
    """The worst output's error as the tolerance counts it, its absolute error, the largest value; inf for NaN."""
    worst, absolute, largest = 0.0, 0.0, 0.0
    for port in spec.outputs:
        reference = expected[port.name].astype(np.float64)
        difference = np.abs(answers[port.name].astype(np.float64) - reference)
        scale = float(np.abs(reference).max(initial=0.0))
        if spec.precision == "fp32":
            error = float(difference.max(initial=0.0)) / max(1.0, scale)
        else:
            error = float(np.sqrt((difference**2).mean()) / max(np.sqrt((reference**2).mean()), 1e-12))
        worst = max(worst, error if np.isfinite(error) else float("inf"))
        absolute, largest = max(absolute, float(difference.max(initial=0.0))), max(largest, scale)
    return worst, absolute, largest
