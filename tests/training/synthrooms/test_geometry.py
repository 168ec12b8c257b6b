"""Depth and normals are exact: against a second ray caster, and against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from slimpath.tests.training.synthrooms.reference import (
    BALL,
    BOX,
    CONE,
    camera_axes,
    hit_ball,
    hit_box,
    hit_cone,
    hit_room,
)
from slimpath.training.synthrooms import render_rooms
from slimpath.training.synthrooms.camera import pixel_grid, pixel_rays
from slimpath.training.synthrooms.render import render_scene
from slimpath.training.synthrooms.sampling import sample_scene
from slimpath.training.synthrooms.scene import Scene

CPU = torch.device("cpu")


def reference_depth(scene: Scene, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) and number of the thing hit (0 the room) by the float64 caster."""
    camera = scene.camera
    right, up, forward = camera_axes(camera.yaw_rad, camera.pitch_rad, camera.roll_rad)
    origin, size = np.array(camera.position), np.array(scene.size_m)
    focal = size_hw[0] / 2 / np.tan(camera.vertical_fov_rad / 2)
    depth, thing = np.empty(size_hw), np.empty(size_hw, dtype=int)
    for row in range(size_hw[0]):
        for column in range(size_hw[1]):
            x, y = (column + 0.5 - size_hw[1] / 2) / focal, (size_hw[0] / 2 - row - 0.5) / focal
            d = forward + x * right + y * up
            times = (
                hit_room(origin, d, size),
                hit_box(origin, d, np.array(BOX["centre"]), np.array(BOX["size"]), BOX["yaw"]),
                hit_ball(origin, d, np.array(BALL["centre"]), BALL["radius"]),
                hit_cone(origin, d, np.array(CONE["centre"]), CONE["radius"], CONE["height"], CONE["taper"]),
            )
            thing[row, column], depth[row, column] = int(np.argmin(times)), min(times)
    return depth, thing


def test_depth_and_instances_agree_with_a_float64_ray_caster(three_solids: Scene) -> None:
    size_hw = (60, 72)
    expected, thing = reference_depth(three_solids, size_hw)
    fields = render_scene(three_solids, size_hw, CPU)
    depth, instance = fields[1].numpy(), fields[7].numpy()
    assert set(np.unique(thing)) == {0, 1, 2, 3}
    same = thing == instance
    assert same.mean() > 0.998  # float32 may decide differently on a silhouette
    # 1e-4: float32 distances of 5 m through a quadratic lose about 4 digits near a silhouette.
    assert np.abs(depth / expected - 1)[same].max() < 1e-4


def test_normals_are_unit_vectors_that_face_the_camera() -> None:
    for seed in range(6):
        scene = sample_scene(seed)
        normals = render_scene(scene, (48, 64), CPU)[2].reshape(-1, 3)
        assert torch.allclose(normals.norm(dim=1), torch.ones(normals.shape[0]), atol=1e-5)
        x_px, y_px = pixel_grid((48, 64), CPU)
        rays = pixel_rays(scene.camera, x_px, y_px, (48, 64))
        axes = torch.from_numpy(scene.camera.axes_33()).float()
        assert ((normals @ axes.T).T * rays).sum(0).max() < 1e-3


def test_fronto_parallel_wall_has_normal_towards_the_viewer(empty_room: Scene) -> None:
    level = replace(empty_room.camera, yaw_rad=0.0, pitch_rad=0.0, roll_rad=0.0)
    fields = render_scene(replace(empty_room, camera=level), (33, 33), CPU)
    assert fields[2][16, 16].tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert fields[2][31, 16].tolist() == pytest.approx([0, 1, 0], abs=1e-6)  # the floor looks up
    assert fields[1][16, 16] == pytest.approx(4.6, abs=1e-5)  # z, the same for all of the wall
    assert fields[1][16, 20] == pytest.approx(4.6, abs=1e-5)


def test_normals_agree_with_slopes_of_the_depth() -> None:
    size_hw = (120, 120)
    angles = []
    for seed in (3, 5, 8):
        camera = sample_scene(seed).camera
        rooms = render_rooms([seed], size_hw)
        depth, normals, edge = rooms.depth_BHW[0].double(), rooms.normals_BHW3[0].double(), rooms.edge_BHW[0]
        focal = camera.focal_px(size_hw[0])
        x = ((torch.arange(120) + 0.5 - 60) / focal).expand(120, 120)
        point = torch.stack([x * depth, -x.T * depth, -depth], dim=-1)
        across, down = point[1:-1, 2:] - point[1:-1, :-2], point[2:, 1:-1] - point[:-2, 1:-1]
        slope = torch.nn.functional.normalize(torch.linalg.cross(down, across), dim=-1)
        near_edge = torch.nn.functional.max_pool2d(edge[None].float(), 5, 1, 2)[0] > 0
        cosine = (slope * normals[1:-1, 1:-1]).sum(-1)[~near_edge[1:-1, 1:-1]]
        angles.append(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))))
    assert torch.cat(angles).median() < 0.5
    assert torch.cat(angles).quantile(0.95) < 5
