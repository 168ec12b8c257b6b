"""Every kind of bad input at the command line: one line that says what, exit code 2, nothing half-written.

What each error says exactly is tested where it is raised (tests/runtime); here, that a user gets it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slimpath.tests.runtime.bundles.test_bundle import GRAPH, change_manifest, redirect
from slimpath.tests.runtime.imaging.test_images import CMYK_JPEG, HUGE, encode, exif, png_with_chunk


def _picture(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


BAD_PICTURES = {
    "empty": b"",
    "text": b"no picture at all",
    "truncated.png": encode(_picture(40, 60), ".png")[:-300],
    "truncated.jpg": encode(_picture(40, 60), ".jpg")[:-300],
    "300_megapixels": next(iter(HUGE.values())),
}
ODD_PICTURES = {
    "grey": encode(_picture(20, 30, 1), ".png"),
    "16_bit": encode(_picture(20, 30, dtype=np.uint16), ".png"),
    "rgba": encode(_picture(20, 30, 4), ".png"),
    "cmyk": CMYK_JPEG,
    "exif_rotated": png_with_chunk(encode(_picture(20, 30), ".png"), b"eXIf", exif(6)),
    "1x1": encode(_picture(1, 1), ".png"),
    "20000_wide": encode(_picture(4, 20_000), ".png"),
}


def _one_line(result: Any) -> str:
    """The error, after making sure that it is one line for people and no traceback."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("slimpath")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_picture_is_refused_and_leaves_nothing(
    name: str, slimpath: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(BAD_PICTURES[name])
    result = slimpath("run", path, "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert name in result.stderr
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


@pytest.mark.parametrize("name", ODD_PICTURES)
def test_odd_picture_is_answered(name: str, slimpath: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.png"
    path.write_bytes(ODD_PICTURES[name])
    result = slimpath("run", path, "--bundle", tiny_bundle, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    made = list((tmp_path / "out").rglob("*.png"))
    assert made and all(cv2.imread(str(file)) is not None for file in made)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tasks", "flying"], "unknown task"),
        (["--budget", "width=0.33"], "0.33"),
        (["--budget", "fast"], "fast"),
        (["--budget", "-1"], "-1"),
        (["--budget", "20ms"], "ms"),
    ],
)
def test_bad_request_is_refused_before_anything_is_written(
    arguments: list[str], says: str, slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    result = slimpath("run", photos, "--bundle", tiny_bundle, "--out", tmp_path / "out", *arguments)
    assert says in _one_line(result)
    assert not (tmp_path / "out").exists()


def _symlink_weights(bundle: Path) -> None:
    moved = bundle.with_name("elsewhere.safetensors")
    (bundle / "weights.safetensors").rename(moved)
    (bundle / "weights.safetensors").symlink_to(moved)


def _truncate(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-10])


def _flip_byte(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[-10] ^= 1
    (bundle / name).write_bytes(bytes(data))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing manifest": (lambda b: (b / "manifest.json").unlink(), "manifest.json"),
    "missing graph": (lambda b: (b / GRAPH).unlink(), GRAPH),
    "missing weights": (lambda b: (b / "weights.safetensors").unlink(), "weights.safetensors"),
    "truncated graph": (lambda b: _truncate(b, GRAPH), GRAPH),
    "truncated weights": (lambda b: _truncate(b, "weights.safetensors"), "weights.safetensors"),
    "changed graph": (lambda b: _flip_byte(b, GRAPH), GRAPH),
    "changed weights": (lambda b: _flip_byte(b, "weights.safetensors"), "weights.safetensors"),
    "unknown schema": (lambda b: change_manifest(b, lambda d: d.update(schema_version=99)), "schema_version 99"),
    "data in a parent folder": (lambda b: redirect(b, location="../secret"), "outside"),
    "data at an absolute path": (lambda b: redirect(b, location="/etc/passwd"), "outside"),
    "data past the end": (lambda b: redirect(b, offset="999999"), "999999"),
    "symlinked weights": (_symlink_weights, "symbolic link"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_bundle_is_refused_before_anything_is_written(
    name: str, slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    damage, says = DAMAGES[name]
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    damage(bundle)
    result = slimpath("run", photos, "--bundle", bundle, "--out", tmp_path / "out")
    assert says in _one_line(result)
    assert not (tmp_path / "out").exists()


def test_hard_linked_bundle_works(
    slimpath: Callable[..., Any], tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    for file in tiny_bundle.iterdir():
        (tmp_path / "bundle" / file.name).hardlink_to(file)
    result = slimpath("run", photos, "--bundle", tmp_path / "bundle", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
