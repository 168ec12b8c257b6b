"""Heads: shapes, pieces against a plain reading of them, and the units of activated answers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from slimpath.models import ConfigError, HeadConfig, MultiTaskModel, activate
from slimpath.models.encoder import narrowed
from slimpath.models.heads import DenseHead, PooledHead


@pytest.mark.parametrize("size_hw", [(16, 16), (32, 48), (48, 32)])
def test_maps_come_at_image_size_and_labels_as_vectors(
    size_hw: tuple[int, int], make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    names = ["semseg", "depth", "normals", "edge", "scene"]
    out = make_model(image_hw=size_hw)(make_images(1, size_hw), names, image_index_B=torch.zeros(5, dtype=torch.long))
    channels = dict(zip(names, (5, 1, 3, 1, 4), strict=True))
    for name in names:
        assert out.raw[name].shape == ((1, 4) if name == "scene" else (1, channels[name], *size_hw))


def test_kind_decides_which_head_is_built(model: MultiTaskModel, tasks: tuple[HeadConfig, ...]) -> None:
    for task in tasks:
        assert isinstance(model.heads[task.name], PooledHead if task.kind == "image_classes" else DenseHead)


def test_dense_head_ignores_the_class_token_and_pooled_head_uses_it(model: MultiTaskModel) -> None:
    tokens, detail = torch.randn(1, 5, 32), torch.randn(1, 8, 8, 8)
    changed = tokens.clone()
    changed[:, 0] += 1.0
    changed[:, 0, 0] += 3.0  # a shift of all channels alone would vanish in the norm
    assert torch.equal(model.heads["depth"](tokens, detail), model.heads["depth"](changed, detail))
    assert not torch.allclose(model.heads["scene"](tokens), model.heads["scene"](changed))


def test_dense_head_uses_the_detail(model: MultiTaskModel) -> None:
    tokens, detail = torch.randn(1, 5, 32), torch.randn(1, 8, 8, 8)
    head = model.heads["depth"]
    assert not torch.allclose(head(tokens, detail), head(tokens, detail + 1.0))


@pytest.mark.parametrize("task", ["semseg", "scene"])
@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.0])
def test_narrowed_head_equals_the_full_one_at_that_width(model: MultiTaskModel, task: str, width: float) -> None:
    tokens, detail = torch.randn(2, 5, 32), torch.randn(2, 8, 8, 8)
    head = model.heads[task]
    expected = head(tokens, detail, width)
    torch.testing.assert_close(narrowed(head, width)(tokens, detail), expected, rtol=1e-6, atol=1e-6)
    if width < 1:
        assert not torch.allclose(head(tokens, detail), expected)


def test_activated_depth_is_metres_within_what_a_camera_sees() -> None:
    raw = torch.tensor([math.log(2.5), -100.0, 100.0]).view(1, 1, 1, 3)
    metres = activate("depth", raw).flatten().tolist()
    assert metres == pytest.approx([2.5, math.exp(-5.0), math.exp(7.0)], rel=1e-5)


def test_activated_normals_have_unit_length_and_keep_their_direction() -> None:
    raw = torch.randn(2, 3, 4, 5) * 10
    normals = activate("normals", raw)
    np.testing.assert_allclose(normals.norm(dim=1).numpy(), 1.0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.cross(normals, raw, dim=1), torch.zeros_like(raw), rtol=0, atol=1e-4)


def test_normals_of_length_0_stay_finite_with_a_finite_gradient() -> None:
    raw = torch.zeros(1, 3, 1, 1, requires_grad=True)
    normals = activate("normals", raw)
    normals.sum().backward()
    assert torch.equal(normals, torch.zeros_like(normals))
    assert raw.grad is not None and raw.grad.isfinite().all()


def test_activated_probabilities_are_sigmoids_of_maps_and_softmaxes_of_labels() -> None:
    raw = torch.tensor([[0.0, math.log(3.0), -100.0, 100.0]])
    assert activate("probability", raw)[0].tolist() == pytest.approx([0.5, 0.75, 0.0, 1.0])
    labels = torch.tensor([[0.0, math.log(2.0), math.log(5.0)]])
    assert activate("image_classes", labels)[0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_logits_of_dense_classes_stay_logits() -> None:
    raw = torch.randn(1, 5, 2, 2)
    assert activate("classes", raw) is raw


def test_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"kind must be one of \('classes', .*got 'boxes'"):
        activate("boxes", torch.zeros(1))
