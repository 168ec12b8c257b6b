"""Back from a bundle to the network it was exported from, for parity tests, evaluation and further training.

Where expert paths leave experts out, it is the network that the bundle runs: its routers cannot reach them either.
"""

from typing import Any

import msgspec
import torch
from safetensors.torch import load_file

from ..models import MultiTaskModel
from ..models.checkpoint import load_weights
from ..models.families import config_from_dict
from ..runtime.bundles.bundle import Bundle
from .int8 import is_stored
from .weights import PER_SIZE, POSITION, stored_name


def model_from_bundle(bundle: Bundle, size_hw: tuple[int, int] | None = None) -> tuple[MultiTaskModel, dict[str, Any]]:
    """The network at one of the bundle's sizes, in evaluation mode, and what its checkpoint said beside the weights.

    Raises:
        ConfigError: the manifest's `model` describes no network of this version.
        CheckpointError: the weights do not fit it.
    """
    manifest = bundle.manifest
    config = config_from_dict(manifest.model)
    size = size_hw or (config.image_hw if config.image_hw in manifest.sizes else manifest.sizes[0])
    tensors = load_file(str(bundle.path / manifest.weights.file))
    position = tensors.get(stored_name(POSITION, size))
    opened = (name for router in manifest.encoder.routers.values() if router.paths for name in router.paths.open_biases)
    sized = (stored_name(name, other) for name in PER_SIZE for other in manifest.sizes)
    for surplus in (*sized, *opened, *filter(is_stored, list(tensors))):
        tensors.pop(surplus, None)
    if position is not None:
        tensors[POSITION] = position
    model = MultiTaskModel(config_from_dict({**manifest.model, "image_hw": size}))
    load_weights(model, {name: torch.as_tensor(value) for name, value in tensors.items()}, source=str(bundle.path))
    metadata = {
        "tasks": msgspec.to_builtins(manifest.tasks),
        "preprocessing": msgspec.to_builtins(manifest.preprocessing),
        "licence": manifest.licence,
        "provenance": manifest.provenance,
    }
    return model.eval(), metadata
