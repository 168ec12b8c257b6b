"""Rooms as they are kept, in memory and on disk: 9 bytes a pixel instead of 22.

    image    uint8   (N, H, W, 3)   sRGB
    depth    float16 (N, H, W)      metres
    normals  int8    (N, H, W, 3)   times 127
    labels   uint8   (N, H, W)      class in bits 0-5 (63: none), edge in bit 6, saliency in bit 7
    scene    int64   (N,)           index into ROOM_TYPES

Axes: N rooms, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import torch

from .classes import NO_CLASS
from .render import RoomBatch

ARRAYS = ("image", "depth", "normals", "labels", "scene")
_CLASS_BITS, _EDGE_BIT, _SALIENCY_BIT = 0x3F, 0x40, 0x80
_NORMAL_SCALE = 127.0


class Room(TypedDict):
    """One room: image uint8 (H, W, 3), depth float32 (H, W) m, normals float32 (H, W, 3), semseg, edge and saliency
    uint8 (H, W), scene."""

    image: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    semseg: np.ndarray
    edge: np.ndarray
    saliency: np.ndarray
    scene: int


def pack(rooms: RoomBatch) -> dict[str, np.ndarray]:
    """Rooms as `ARRAYS`, from whichever device they were rendered on."""
    labels = (
        rooms.semseg_BHW.clamp_max(_CLASS_BITS)
        | (rooms.edge_BHW.to(torch.uint8) * _EDGE_BIT)
        | (rooms.saliency_BHW.to(torch.uint8) * _SALIENCY_BIT)
    )
    packed = {
        "image": rooms.image_BHW3,
        "depth": rooms.depth_BHW.to(torch.float16),
        "normals": (rooms.normals_BHW3 * _NORMAL_SCALE).round().to(torch.int8),
        "labels": labels,
        "scene": rooms.scene_B,
    }
    return {name: tensor.cpu().numpy() for name, tensor in packed.items()}


def unpack(arrays: Mapping[str, np.ndarray], row: int) -> Room:
    """Room `row` of what `pack` made; nothing of it shares memory with the arrays."""
    labels, normals = arrays["labels"][row], arrays["normals"][row].astype(np.float32)
    classes = labels & _CLASS_BITS
    return {
        "image": np.array(arrays["image"][row]),
        "depth": arrays["depth"][row].astype(np.float32),
        "normals": normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1.0),
        "semseg": np.where(classes == _CLASS_BITS, np.uint8(NO_CLASS), classes),
        "edge": (labels & _EDGE_BIT) // _EDGE_BIT,
        "saliency": (labels & _SALIENCY_BIT) // _SALIENCY_BIT,
        "scene": int(arrays["scene"][row]),
    }
