"""Seeds decide everything; every label occurs; pictures are finite and well exposed."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from slimpath.training.synthrooms import CLASSES, PALETTE, ROOM_TYPES, RoomBatch, render_rooms


def test_same_seed_gives_the_same_pixels_in_any_batch() -> None:
    alone, together = render_rooms([7], (40, 56)), render_rooms([3, 7, 11], (40, 56))
    for field in fields(RoomBatch):
        assert torch.equal(getattr(alone, field.name)[0], getattr(together, field.name)[1]), field.name
    assert not torch.equal(together.image_BHW3[0], together.image_BHW3[1])


def test_fields_have_the_promised_shapes_and_types() -> None:
    rooms = render_rooms([0, 1], (24, 32))
    expected = {
        "image_BHW3": ((2, 24, 32, 3), torch.uint8),
        "depth_BHW": ((2, 24, 32), torch.float32),
        "normals_BHW3": ((2, 24, 32, 3), torch.float32),
        "semseg_BHW": ((2, 24, 32), torch.uint8),
        "edge_BHW": ((2, 24, 32), torch.bool),
        "saliency_BHW": ((2, 24, 32), torch.bool),
        "scene_B": ((2,), torch.int64),
        "instance_BHW": ((2, 24, 32), torch.int32),
    }
    assert {name: (tuple(getattr(rooms, name).shape), getattr(rooms, name).dtype) for name in expected} == expected


def test_more_samples_change_the_picture_and_no_label() -> None:
    one, four = render_rooms([5], (40, 40)), render_rooms([5], (40, 40), samples_per_pixel=4)
    for name in ("depth_BHW", "normals_BHW3", "semseg_BHW", "edge_BHW", "saliency_BHW", "instance_BHW"):
        assert torch.equal(getattr(one, name), getattr(four, name)), name
    difference = (one.image_BHW3.float() - four.image_BHW3.float()).abs().mean()
    assert 0.1 < difference < 25


def test_every_class_and_room_type_occurs_and_all_is_finite_and_exposed() -> None:
    labels, types, means = set(), set(), []
    for start in range(0, 200, 20):
        rooms = render_rooms(range(start, start + 20), (20, 20))
        labels |= set(rooms.semseg_BHW.unique().tolist())
        types |= set(rooms.scene_B.tolist())
        means += rooms.image_BHW3.float().mean(dim=(1, 2, 3)).tolist()
        assert rooms.depth_BHW.isfinite().all() and rooms.normals_BHW3.isfinite().all()
        assert rooms.depth_BHW.min() > 0.05 and rooms.depth_BHW.max() < 15
    assert labels == set(range(len(CLASSES)))
    assert types == set(range(len(ROOM_TYPES)))
    assert min(means) > 50 and max(means) < 205 and 95 < sum(means) / len(means) < 145


def test_linear_light_is_finite_before_it_is_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    from slimpath.training.synthrooms import render

    seen, develop = [], render.develop

    def spy(light: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(light.isfinite().all() & (light >= 0).all())
        return develop(light, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(render, "develop", spy)
    render_rooms(range(30), (24, 24))
    assert len(seen) == 30 and all(seen)


def test_palette_has_one_colour_per_class() -> None:
    assert len(PALETTE) == len(set(PALETTE)) == len(CLASSES)


@pytest.mark.parametrize("samples", [0, 2, -4])
def test_sample_count_that_is_no_square_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=f"square number.*got {samples}"):
        render_rooms([0], (8, 8), samples_per_pixel=samples)


def test_no_seeds_tiny_size_and_negative_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        render_rooms([])
    with pytest.raises(ValueError, match="2 x 2"):
        render_rooms([0], (1, 8))
    with pytest.raises(ValueError, match="-1"):
        render_rooms([-1], (8, 8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_renders_the_same_scene() -> None:
    there, here = render_rooms([2, 9], (64, 64), device="cuda"), render_rooms([2, 9], (64, 64))
    assert there.image_BHW3.is_cuda
    assert (there.semseg_BHW.cpu() == here.semseg_BHW).float().mean() > 0.999
    same = there.instance_BHW.cpu() == here.instance_BHW
    assert (there.depth_BHW.cpu() / here.depth_BHW - 1).abs()[same].max() < 1e-3
    assert (there.image_BHW3.cpu().float() - here.image_BHW3.float()).abs().mean() < 1.0
