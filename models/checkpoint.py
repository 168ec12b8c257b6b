"""One file per model: a safetensors file whose metadata holds the configuration and what the trainer adds, as JSON."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import CheckpointError, ConfigError
from .families import config_from_dict
from .model import MultiTaskModel

FORMAT = "slimpath-checkpoint-1"


def save_checkpoint(path: Path | str, model: MultiTaskModel, metadata: dict[str, Any] | None = None) -> Path:
    """Write the weights (fp32, contiguous) with configuration and metadata; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: plain(value) for name, value in model.state_dict().items()}
    header = {"format": FORMAT, "config": json.dumps(model.config.to_dict()), "metadata": json.dumps(metadata or {})}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, str(temporary), metadata=header)
        temporary.chmod(0o644)  # the library makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # only there if something above failed
    return path


def plain(value: torch.Tensor) -> torch.Tensor:
    """A tensor as files hold it: in one piece on the CPU; fp32, unless it counts something (batches seen)."""
    value = value.detach()
    return (value.float() if value.is_floating_point() else value).contiguous().cpu()


def load_checkpoint(path: Path | str) -> tuple[MultiTaskModel, dict[str, Any]]:
    """Read a model and the metadata saved with it; the model is on the CPU in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: not a slimpath checkpoint, damaged, or missing (-) and surplus (+) names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            # A foreign file may hold gigabytes: look at its format before reading any of them.
            ours = header.get("format") == FORMAT
            names = file.keys() if ours else ()  # not iterable itself
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    if not ours:
        raise CheckpointError(
            f"{path} is no slimpath checkpoint: expected format '{FORMAT}', got '{header.get('format')}'"
        )
    try:
        config, metadata = config_from_dict(json.loads(header["config"])), json.loads(header["metadata"])
    except (KeyError, json.JSONDecodeError, ConfigError) as error:
        raise CheckpointError(f"{path}: the header is damaged: {error}") from error
    with torch.device("meta"):  # no weights are drawn only to be overwritten, and the random state stays as it is
        model = MultiTaskModel(config)
    _check_fit(model, tensors, source=str(path))
    model.load_state_dict(tensors, assign=True)
    return model.eval(), metadata


def load_weights(model: MultiTaskModel, tensors: dict[str, torch.Tensor], *, source: str) -> None:
    """Copy tensors into a model by name.

    Raises:
        CheckpointError: names or shapes differ; every difference is listed.
    """
    _check_fit(model, tensors, source=source)
    model.load_state_dict(tensors)


def _check_fit(model: MultiTaskModel, tensors: dict[str, torch.Tensor], *, source: str) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    lines = [f"- {name} {wanted[name]}" for name in sorted(wanted.keys() - found.keys())]
    lines += [f"+ {name} {found[name]}" for name in sorted(found.keys() - wanted.keys())]
    shared = sorted(wanted.keys() & found.keys())
    lines += [f"! {name} expected {wanted[name]}, got {found[name]}" for name in shared if wanted[name] != found[name]]
    if lines:
        raise CheckpointError(
            f"{source} does not fit the network (- missing, + surplus, ! shape):\n" + "\n".join(lines)
        )
