"""The weights of a bundle: read-only views of one mapped file, by name. Nothing is read until it is touched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WeightsError
from .safetensors_header import SafetensorsHeader, read_safetensors_header

_NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "F16": np.float16,
    "U32": np.uint32,
    "I32": np.int32,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
}


class Weights:
    """An open safetensors file.

    Raises:
        WeightsError: the file is missing, unreadable, or not a whole safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.bytes = path.stat().st_size
            with path.open("rb") as file:
                self.header: SafetensorsHeader = read_safetensors_header(file, self.bytes)
            self._map = np.memmap(path, np.uint8, mode="r")
        except OSError as error:
            raise WeightsError(f"{path}: the weights file cannot be read: {error.strerror or error}") from None
        except WeightsError as error:
            raise WeightsError(f"{path}: {error.message}", hint=error.hint) from None

    def tensor(self, name: str) -> np.ndarray:
        """A read-only view of one tensor; it keeps the file mapped for as long as it lives.

        Raises:
            WeightsError: no tensor of that name, or a type that NumPy does not have (bfloat16, float8).
        """
        entry = self.header.tensors.get(name)
        if entry is None:
            near = [known for known in self.header.tensors if known.rpartition(".")[2] == name.rpartition(".")[2]]
            listed = ", ".join(near[:5]) or "nothing alike"
            raise WeightsError(f"{self.path}: no tensor {name!r}", hint=f"there is {listed}")
        if entry.dtype not in _NUMPY_TYPES:
            raise WeightsError(f"{self.path}: tensor {name!r} is {entry.dtype}, which NumPy does not have")
        return np.ndarray(entry.shape, _NUMPY_TYPES[entry.dtype], buffer=self._map, offset=entry.offset)

    def names(self) -> list[str]:
        return list(self.header.tensors)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def file_identity(path: Path) -> tuple[int, int, int, int] | None:
    """What changes when a file is replaced or written to; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
