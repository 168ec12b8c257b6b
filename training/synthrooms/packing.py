"""A scene as tensors on the device that renders it.

Axes: P solids, S surfaces (the solids, then the six faces of the room).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .classes import CLASS_ID, NO_CLASS
from .intersect import Solids, pack_solids
from .materials import Material
from .pieces import Part, Piece
from .scene import SKY, Scene


@dataclass(frozen=True)
class PackedScene:
    """`shadow` holds only solids worth a shadow: flat things on walls cost rays and change nothing."""

    solids: Solids
    shadow: Solids
    size_3: Tensor
    texture_S: Tensor
    textures_used: tuple[int, ...]
    material_SM: Tensor
    label_S: Tensor
    instance_S: Tensor
    sky_S: Tensor


def sort_parts(pieces: Sequence[Piece]) -> tuple[list[Part], list[int]]:
    """All parts, by shape, with the number (from 1) of the piece each belongs to."""
    pairs = [(part, number) for number, piece in enumerate(pieces, start=1) for part in piece.parts]
    pairs.sort(key=lambda pair: pair[0].shape)
    return [part for part, _ in pairs], [number for _, number in pairs]


def _speck(material: Material) -> Piece:
    """Stands in for the furniture of an empty room, unseen below its floor: gathers need at least one row."""
    piece = Piece("object")
    piece.box((0.0, -1.0, 0.0), (0.01, 0.01, 0.01), material)
    return piece


def pack_scene(scene: Scene, device: torch.device) -> PackedScene:
    pieces = scene.pieces or (_speck(scene.faces[0]),)
    parts, owners = sort_parts(pieces)
    materials = [part.material for part in parts] + list(scene.faces)
    faces = [NO_CLASS if label == SKY else CLASS_ID[label] for label in scene.face_labels]
    labels = [CLASS_ID[pieces[owner - 1].label] for owner in owners] + faces
    textures = [int(material.texture) for material in materials]
    return PackedScene(
        solids=pack_solids(parts, device),
        shadow=pack_solids([part for part in parts if part.casts_shadow], device),
        size_3=torch.tensor(scene.size_m, device=device),
        texture_S=torch.tensor(textures, device=device),
        textures_used=tuple(sorted(set(textures))),
        material_SM=torch.tensor([material.columns() for material in materials], device=device),
        label_S=torch.tensor(labels, device=device, dtype=torch.uint8),
        instance_S=torch.tensor([*owners, 0, 0, 0, 0, 0, 0], device=device, dtype=torch.int32),
        sky_S=torch.tensor([False] * len(owners) + [label == SKY for label in scene.face_labels], device=device),
    )
