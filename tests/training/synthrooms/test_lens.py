"""What is in focus stays sharp and keeps its light to itself; lines bend as the formula says, labels with them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from slimpath.training.synthrooms.camera import Camera, pixel_rays
from slimpath.training.synthrooms.lens import Focus, blur_radius_px, defocus
from slimpath.training.synthrooms.render import render_scene
from slimpath.training.synthrooms.scene import Scene

CPU = torch.device("cpu")


def test_disc_grows_as_a_thin_lens_says() -> None:
    focus = Focus(distance_m=2.0, blur_px=4.0)
    depth = torch.tensor([1.0, 2.0, 4.0, 1e9]).expand(224, 4)
    # c = A |1 - f / d|: sharp at the focus, half of the limit at twice its distance, the limit very far away.
    np.testing.assert_allclose(blur_radius_px(depth, focus)[0], [4.0, 0.0, 2.0, 4.0], atol=1e-5)


def test_even_light_stays_even() -> None:
    depth = torch.rand(40, 40) * 5 + 0.5
    light = torch.full((3, 40, 40), 0.7)
    torch.testing.assert_close(defocus(light, depth, Focus(1.0, 5.0)), light)


def test_without_blur_nothing_changes() -> None:
    light = torch.rand(3, 8, 8)
    assert defocus(light, torch.ones(8, 8), Focus()) is light


def test_far_away_is_blurred_and_what_is_in_focus_neither_blurs_nor_bleeds() -> None:
    generator = torch.Generator().manual_seed(0)
    light = torch.rand(3, 64, 64, generator=generator) * 0.1
    depth = torch.full((64, 64), 50.0)
    depth[:, :32] = 1.0
    light[:, :, :32] += 100.0  # bright, sharp, in front
    blurred = defocus(light, depth, Focus(1.0, 5.0 * 224 / 64))
    torch.testing.assert_close(blurred[:, :, :32], light[:, :, :32])
    assert blurred[:, 8:-8, 44:-8].std() < 0.3 * light[:, 8:-8, 44:-8].std()
    # A plain blur would add 10 and more beside the border.
    assert blurred[:, :, 34:].max() < 4


@pytest.mark.parametrize("distortion", [-0.15, 0.1])
def test_rays_are_bent_away_from_the_axis_as_the_polynomial_says(distortion: float) -> None:
    straight = Camera((0, 0, 0), 0.0, 0.0, 0.0, math.radians(60))
    x, y = torch.tensor([112.0, 0.0, 224.0, 30.0]), torch.tensor([112.0, 0.0, 50.0, 200.0])
    plain = pixel_rays(straight, x, y, (224, 224)).double()
    bent = pixel_rays(replace(straight, distortion=distortion), x, y, (224, 224)).double()
    radius2 = plain[0] ** 2 + plain[1] ** 2
    torch.testing.assert_close(bent[:2], plain[:2] * (1 + distortion * radius2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bent[2], plain[2])  # the ray's parameter stays the depth


def test_labels_bend_with_the_picture(three_solids: Scene) -> None:
    camera = replace(three_solids.camera, distortion=0.1)
    straight, bent = (
        render_scene(scene, (64, 64), CPU) for scene in (three_solids, replace(three_solids, camera=camera))
    )
    for index in (1, 2, 7):  # depth, normals, instances
        assert not torch.equal(straight[index], bent[index])
    jump = (bent[7][:, 1:] != bent[7][:, :-1]) & ((bent[1][:, 1:] - bent[1][:, :-1]).abs() > 0.3)
    assert jump.any() and (bent[4][:, 1:] | bent[4][:, :-1])[jump].all()
