"""What the server and its models say about themselves: metadata, configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...runtime.tasks import TaskSpec
from .parameters import LOWEST_PRIORITY, VENDOR
from .tensors import ACCEPTED, INPUT

if TYPE_CHECKING:
    from ..model import Model

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
PLATFORM = "slimpath_onnx"
_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}


def server_metadata() -> dict[str, Any]:
    """GET /v2."""
    from ... import __version__

    return {"name": "slimpath", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(model: Model) -> dict[str, Any]:
    """GET /v2/models/NAME. Dimensions that may differ between requests are -1; the first is the number of images."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": datatype(spec), "shape": shape(spec, model.bundle.manifest.sizes)}
            for name, spec in model.tasks.items()
        ],
    }


def datatype(spec: TaskSpec) -> str:
    """Of a task's output."""
    return "UINT8" if spec.kind == "classes" else "FP32"


def shape(spec: TaskSpec, sizes: tuple[tuple[int, int], ...]) -> list[int]:
    """Of a task's output: [N, K], [N, H, W] or [N, H, W, 3]; H and W are those of the network."""
    if spec.kind == "image_classes":
        return [-1, spec.channels]
    height, width = (sizes[0][0], sizes[0][1]) if len(sizes) == 1 else (-1, -1)
    return [-1, height, width, 3] if spec.kind == "normals" else [-1, height, width]


def model_config(model: Model) -> dict[str, Any]:
    """GET /v2/models/NAME/config, in Triton's words. `max_batch_size` is 0: shapes hold the number of images."""
    metadata = model_metadata(model)
    manifest = model.bundle.manifest
    texts = {
        "accepted_input": ACCEPTED,
        "bundle_digest": model.bundle.digest,
        "family": manifest.family,
        "widths": ",".join(f"{width:g}" for width in manifest.widths),
        "sizes": ",".join(f"{height}x{width}" for height, width in manifest.sizes),
        "request_parameters": ",".join(VENDOR),
    }
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": "slimpath",
        "runtime": model.backend,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [_config_tensor(tensor) for tensor in metadata["inputs"]],
        "output": [_config_tensor(tensor) for tensor in metadata["outputs"]],
        "dynamic_batching": {"priority_levels": LOWEST_PRIORITY, "default_priority_level": LOWEST_PRIORITY},
        "parameters": {name: {"string_value": value} for name, value in texts.items()},
    }


def _config_tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    return {"name": tensor["name"], "data_type": _TYPES[tensor["datatype"]], "dims": tensor["shape"]}
