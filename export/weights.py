"""The weights file: plain safetensors, one copy of every tensor, narrow graphs refer to prefixes of it."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ..models import MultiTaskModel
from ..models.encoder import resample_position
from ..models.swin_config import STAGES, SwinConfig
from ..models.swin_layers import shift_mask
from .errors import GraphBuildError
from .int8 import ZERO, ZEROS

WEIGHTS_FILE = "weights.safetensors"
POSITION = "encoder.position"


def position_name(size_hw: tuple[int, int]) -> str:
    """Name of the position embedding of one input size."""
    return f"{POSITION}.{size_hw[0]}x{size_hw[1]}"


def mask_name(stage: int) -> str:
    """Name, in a graph, of the mask of a Swin stage's shifted windows."""
    return f"encoder.stages.{stage}.mask"


#: What sizes do not share. All else is stored once.
PER_SIZE: frozenset[str] = frozenset({POSITION, *(mask_name(stage) for stage in range(STAGES))})


def stored_name(name: str, size_hw: tuple[int, int]) -> str:
    """Name in the weights file of a tensor that the graphs of a size call `name`."""
    if name.endswith(ZERO):
        return ZEROS
    return f"{name}.{size_hw[0]}x{size_hw[1]}" if name in PER_SIZE else name


def bundle_tensors(model: MultiTaskModel, sizes: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Every tensor of the weights file by name: the checkpoint's, and once per size what depends on the size: the
    position embedding of a ViT, the masks of a Swin's shifted windows."""
    config = model.config
    tensors = {name: value.detach().float().contiguous() for name, value in model.state_dict().items()}
    if isinstance(config, SwinConfig):
        return tensors | {name: mask for size in sizes for name, mask in _masks(config, size).items()}
    position, patch = tensors.pop(POSITION), config.patch
    for height, width in sizes:
        grid = (height // patch, width // patch)
        tensors[position_name((height, width))] = resample_position(position, config.grid_hw, grid).contiguous()
    return tensors


def _masks(config: SwinConfig, size_hw: tuple[int, int]) -> dict[str, torch.Tensor]:
    sized = replace(config, image_hw=size_hw)
    return {
        stored_name(mask_name(stage), size_hw): shift_mask(
            sized.stage_grid(stage), sized.stage_window(stage), sized.stage_shift(stage)
        )
        for stage in range(STAGES)
        if sized.stage_shift(stage)
    }


@dataclass(frozen=True)
class WeightsFile:
    """A written weights file and where each tensor lies in it (byte offsets from the start of the file)."""

    path: Path
    offsets: Mapping[str, tuple[int, int]]
    sha256: str
    header_sha256: str

    @classmethod
    def write(cls, path: Path, tensors: dict[str, torch.Tensor]) -> "WeightsFile":
        """Write with the safetensors library, then read back where everything went."""
        save_file(tensors, str(path), metadata={"format": "pt"})
        path.chmod(0o644)  # the library makes files that only their owner can read; a service runs as somebody else
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = file.read(length)
            file.seek(0)
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        entries = {name: entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"}
        offsets = {name: (8 + length + start, 8 + length + end) for name, (start, end) in entries.items()}
        header_sha256 = hashlib.sha256(struct.pack("<Q", length) + header).hexdigest()
        return cls(path, offsets, digest.hexdigest(), header_sha256)

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def prefix_of(self, name: str, array: np.ndarray) -> tuple[int, int]:
        """Offset and length in bytes of `array`, after making sure that it is a prefix of the tensor `name`.

        Raises:
            GraphBuildError: the bytes differ, so the graph would compute with other weights than the network.
        """
        start, end = self.offsets[name]
        data = np.ascontiguousarray(array).tobytes()
        with self.path.open("rb") as file:
            file.seek(start)
            stored = file.read(min(len(data), end - start))
        if stored != data:
            raise GraphBuildError(f"'{name}' {array.shape} is not a prefix of the stored tensor of {end - start} bytes")
        return start, len(data)
