"""The film that streams are measured on: it moves, it is the same every time, and it can be written."""

from __future__ import annotations

import importlib.util
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import slimpath

pytest.importorskip("skimage", reason="its photographs are filmed")


@pytest.fixture(scope="module")
def film() -> ModuleType:
    path = Path(slimpath.__file__).parent / "benchmarks" / "film.py"
    spec = importlib.util.spec_from_file_location("benchmark_film", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_camera_moves_and_every_photograph_is_filmed(film: ModuleType) -> None:
    found = list(film.frames(seconds=31, fps=1, size_hw=(60, 80)))
    assert len(found) == 31 and {frame.shape for frame in found} == {(60, 80, 3)}
    assert all(np.abs(a.astype(int) - b).mean() > 2 for a, b in pairwise(found))
    scenes = [found[6 * scene + 2] for scene in range(5)]
    assert all(np.abs(scenes[i].astype(int) - scenes[j]).mean() > 15 for i in range(5) for j in range(i))


def test_film_is_the_same_every_time(film: ModuleType) -> None:
    first, again = (list(islice(film.frames(2.0, 5.0, (48, 64)), 10)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


def test_film_is_written_whole(film: ModuleType, tmp_path: Path) -> None:
    film.write_film(tmp_path / "film.mp4", seconds=1.0, fps=10.0, size_hw=(48, 64))
    capture = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert sum(capture.grab() for _ in range(20)) == 10
    capture.release()
