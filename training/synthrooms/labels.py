"""Pixel labels from the hits of pixel-centre rays: normals, edges, the salient object.

Axes: B batch, H height, W width, N = H*W pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .camera import Camera
from .classes import CLASS_ID, NO_CLASS, STRUCTURE
from .intersect import normalize
from .surface import Hits

CREASE_DEG = 27.0
JUMP_SHARE = 0.012  # of the nearer depth, between two instances
SELF_JUMP_SHARE = 0.03  # the same within one instance


def camera_normals(normal_3N: Tensor, camera: Camera) -> Tensor:
    """World normals turned into camera axes: x right, y up, z towards the viewer."""
    axes = torch.from_numpy(camera.axes_33()).to(device=normal_3N.device, dtype=torch.float32)
    return normalize(axes.t() @ normal_3N)


def edge_map(hits: Hits, instance_N: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Occlusion and crease boundaries (H, W) bool, one pixel wide.

    Neighbours on the same smooth face never make an edge. An occlusion edge needs both points well off the other's
    tangent plane, and is drawn on the nearer one; a crease needs normals more than `CREASE_DEG` apart and is drawn on
    the left or upper pixel.
    """
    depth, face = hits.depth_N.view(size_hw), hits.face_N.view(size_hw)
    instance = instance_N.view(size_hw)
    point, normal = hits.point_3N.view(3, *size_hw), hits.normal_3N.view(3, *size_hw)
    edge = torch.zeros(size_hw, dtype=torch.bool, device=depth.device)
    for dim in (0, 1):
        first = (slice(None, -1), slice(None)) if dim == 0 else (slice(None), slice(None, -1))
        second = (slice(1, None), slice(None)) if dim == 0 else (slice(None), slice(1, None))
        step = point[(slice(None), *second)] - point[(slice(None), *first)]
        normal_a, normal_b = normal[(slice(None), *first)], normal[(slice(None), *second)]
        gap = torch.minimum((step * normal_a).sum(0).abs(), (step * normal_b).sum(0).abs())
        near = torch.minimum(depth[first], depth[second])
        share = torch.where(instance[first] != instance[second], JUMP_SHARE, SELF_JUMP_SHARE)
        differ = face[first] != face[second]
        jump = differ & (gap > share * near)
        crease = differ & ~jump & ((normal_a * normal_b).sum(0) < math.cos(math.radians(CREASE_DEG)))
        first_nearer = depth[first] <= depth[second]
        edge[first] |= (jump & first_nearer) | crease
        edge[second] |= jump & ~first_nearer
    return edge


def salient(instance_N: Tensor, label_N: Tensor, depth_N: Tensor) -> Tensor:
    """The pixels (N,) bool of the one thing with the largest (pixels / mean depth); none if there are only walls."""
    counted = label_N != NO_CLASS
    for name in STRUCTURE:
        counted &= label_N != CLASS_ID[name]
    weight = counted.double()
    area = torch.zeros(int(instance_N.max()) + 1, device=depth_N.device, dtype=torch.float64)
    area.index_add_(0, instance_N.long(), weight)
    total_m = torch.zeros_like(area).index_add_(0, instance_N.long(), weight * depth_N.double())
    score = area * area / total_m.clamp_min(1e-9)
    return counted & (instance_N == score.argmax()) & (score.max() > 0)
