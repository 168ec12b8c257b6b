"""Answers that ignore the image."""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.tests.training.conftest import ToyRooms
from slimpath.training.baselines import fit_baselines
from slimpath.training.errors import EvaluationError
from slimpath.training.metrics import metric_for

CHANNELS = {"semseg": 3, "depth": 1, "normals": 3, "edge": 1, "saliency": 1, "scene": 2}
ROOMS = ToyRooms(9)
SAMPLES = [ROOMS[number] for number in range(9)]
FITTED = fit_baselines(ROOMS, CHANNELS, (32, 32))


def stacked(task: str) -> np.ndarray:
    return np.stack([sample[task] for sample in SAMPLES])


def test_constant_answers_are_majority_and_mean():
    assert (FITTED.constant["semseg"] == np.bincount(stacked("semseg").ravel()).argmax()).all()
    assert FITTED.constant["depth"] == pytest.approx(np.full((32, 32), stacked("depth").mean()), rel=1e-5)
    mean = stacked("normals").reshape(-1, 3).mean(0)
    assert FITTED.constant["normals"][3, 4] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert (FITTED.constant["edge"] == 1).all() and (FITTED.constant["saliency"] == 1).all()
    assert FITTED.constant["scene"].argmax() == 0  # five of nine
    assert FITTED.scenes == 9


def test_pixel_answers_are_those_of_each_pixel():
    semseg = stacked("semseg")
    for y, x in ((0, 0), (15, 9), (31, 31)):
        assert FITTED.pixel_mean["semseg"][y, x] == np.bincount(semseg[:, y, x]).argmax()
        assert FITTED.pixel_mean["depth"][y, x] == pytest.approx(stacked("depth")[:, y, x].mean(), rel=1e-5)
        assert FITTED.pixel_mean["saliency"][y, x] == pytest.approx(stacked("saliency")[:, y, x].mean())
        mean = stacked("normals")[:, y, x].mean(0)
        assert FITTED.pixel_mean["normals"][y, x] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


@pytest.mark.parametrize("task", ["semseg", "depth", "normals", "saliency"])
def test_pixel_answers_beat_constant_ones_where_they_were_fitted(task: str):
    metric = metric_for(task, CHANNELS[task])
    constant, pixel_mean = (
        float(metric.value(np.sum([metric.sums(answers[task], sample[task]) for sample in SAMPLES], axis=0)))
        for answers in (FITTED.constant, FITTED.pixel_mean)
    )
    assert pixel_mean > constant if metric.higher_is_better else pixel_mean < constant


def test_no_constant_depth_beats_the_mean():
    metric = metric_for("depth", 1)

    def error(shift: float) -> float:
        answer = FITTED.constant["depth"] + np.float32(shift)
        return float(metric.value(np.sum([metric.sums(answer, sample["depth"]) for sample in SAMPLES], axis=0)))

    assert error(0) < min(error(-0.1), error(0.1))


def test_pixels_without_a_label_fall_back_to_the_constant():
    class Void(ToyRooms):
        def __getitem__(self, index: int, /):
            sample = super().__getitem__(index)
            sample["semseg"][:4], sample["depth"][:4], sample["normals"][:4] = 255, 0, 0
            return sample

    fitted = fit_baselines(Void(5), CHANNELS, (32, 32))
    for task in ("semseg", "depth", "normals"):
        assert np.array_equal(fitted.pixel_mean[task][:4], fitted.constant[task][:4])
    assert fitted.constant["depth"][0, 0] > 1  # zeros did not count


def test_wrong_size_and_no_scenes_are_refused():
    with pytest.raises(EvaluationError, match="at least one"):
        fit_baselines(ToyRooms(0), CHANNELS, (32, 32))
    with pytest.raises(EvaluationError, match=r"must be \(64, 64\)"):
        fit_baselines(ROOMS, CHANNELS, (64, 64))
