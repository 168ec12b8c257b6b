from __future__ import annotations

import numpy as np
import pytest

from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.profiling.agreement import ROOM_IMAGES, compare, room_planes

KINDS = ("classes", "depth", "normals", "probability", "image_classes")


def _answer(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "image_classes":
        values = rng.uniform(size=(2, 4))
        return values / values.sum(axis=1, keepdims=True)
    values = rng.uniform(0.1, 0.9, (2, {"classes": 5, "normals": 3}.get(kind, 1), 20, 20))
    return values / np.linalg.norm(values, axis=1, keepdims=True) if kind == "normals" else values


def _turned(normals: np.ndarray, degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    across = np.cross(normals, [0.0, 0.0, 1.0], axisa=1, axisb=0, axisc=1)
    return cosine * normals + sine * across / np.linalg.norm(across, axis=1, keepdims=True)


def _other_classes(logits: np.ndarray, share: float) -> np.ndarray:
    changed = logits.copy()
    pixels = changed.reshape(2, 5, -1)
    pixels[:, :, : round(share * pixels.shape[-1])] *= -1
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_equal_answers_agree(kind):
    result = compare(kind, _answer(kind), _answer(kind))
    assert result.passed
    assert result.value == pytest.approx(1.0 if kind == "classes" else 0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "value", "change"),
    [
        ("classes", 0.99, lambda x: _other_classes(x, 0.01)),
        ("depth", 0.005, lambda x: 1.005 * x),
        ("normals", 0.5, lambda x: _turned(x, 0.5)),
        ("probability", 0.005, lambda x: x + 0.005),
        ("image_classes", 0.01, lambda x: x + np.eye(4)[0] * 0.01),
    ],
)
def test_what_nobody_sees_agrees(kind, value, change):
    result = compare(kind, change(_answer(kind)), _answer(kind))
    assert result.passed
    assert result.value == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("classes", lambda x: _other_classes(x, 0.05)),
        ("depth", lambda x: 1.03 * x),
        ("normals", lambda x: _turned(x, 3)),
        ("probability", lambda x: x + 0.03),
        ("image_classes", lambda x: x + np.eye(4)[0] * 0.1),
    ],
)
def test_what_can_be_seen_does_not_agree(kind, change):
    result = compare(kind, change(_answer(kind)), _answer(kind))
    assert not result.passed
    assert f"at {'most' if result.at_most else 'least'} {result.bound:g}" in str(result)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "classes"])
def test_what_is_no_number_never_agrees(kind):
    result = compare(kind, np.full_like(_answer(kind), np.nan), _answer(kind))
    assert not result.passed
    assert result.value is None
    assert "is not a number" in str(result)


def test_class_of_a_pixel_without_numbers_does_not_agree():
    broken = _answer("classes")
    broken[:, :, :10] = np.nan
    assert not compare("classes", broken, _answer("classes")).passed


def test_room_fits_any_plane():
    spec = Preprocessing("letterbox", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    planes = room_planes(spec, (32, 48))
    assert planes.shape == (ROOM_IMAGES, 3, 32, 48)
    assert planes.dtype == np.float32
    # Letterboxed: a square room in the middle of a wide plane; its mirror image is mirrored.
    np.testing.assert_allclose(planes[1][:, :, 8:40], planes[0][:, :, 8:40][:, :, ::-1], atol=1e-5)
    assert not np.array_equal(planes[0], planes[2])
