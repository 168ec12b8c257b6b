"""Edge matching against exact ones: a maximum matching by augmenting paths, and cases known by hand."""

from __future__ import annotations

import math
import sys

import cv2
import numpy as np
import pytest

from slimpath.training.edge_match import MAX_DISTANCE, match_counts, thin
from slimpath.training.metrics import EdgeF

HALF = np.array([0.5], np.float32)


def line(row: int, size: int = 224) -> np.ndarray:
    edge = np.zeros((size, size), np.uint8)
    edge[row, 20:-20] = 1
    return edge


def counts(answer: np.ndarray, truth: np.ndarray) -> list[float]:
    return match_counts(answer.astype(np.float32), truth, HALF)[:, 0].tolist()


@pytest.mark.parametrize(("shift", "pairs"), [(0, 184), (1, 184), (2, 184), (3, 0)])
def test_line_is_found_up_to_the_distance_and_not_beyond(shift: int, pairs: int):
    assert counts(line(100 + shift), line(100)) == [pairs, 184, 184]


def test_band_as_thick_as_a_saturated_answer_is_thinned_to_its_middle():
    thick = np.zeros((224, 224), np.float32)
    thick[98:103, 20:-20] = 1.0
    ridges = thin(thick)[:, 30:-30]  # away from the ends of the band
    assert (ridges[100] == 1).all() and not np.delete(ridges, 100, axis=0).any()


def test_each_true_pixel_is_found_once_in_an_answer_without_any_form():
    pairs, answered, true = counts(np.ones((224, 224)), line(100))
    assert (pairs, answered, true) == (184, 224 * 224, 184)


def test_two_answered_lines_share_one_true_line():
    both = line(99) | line(101)
    pairs, answered, true = counts(both, line(100))
    assert (pairs, answered, true) == (184, 368, 184)


def test_one_answered_line_cannot_serve_two_true_lines():
    pairs, answered, true = counts(line(100), line(99) | line(101))
    assert (pairs, answered, true) == (184, 184, 368)


def test_pixels_nobody_labelled_count_on_neither_side():
    truth = line(100)
    truth[:, :112] = 255
    pairs, answered, true = counts(line(100), truth)
    assert (pairs, answered, true) == (92, 92, 92)


@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_thinning_leaves_the_ridge_of_a_blurred_line(direction: tuple[int, int]):
    picture = np.zeros((64, 64), np.float32)
    (dy, dx), middle = direction, 32
    cv2.line(picture, (middle - 40 * dx, middle - 40 * dy), (middle + 40 * dx, middle + 40 * dy), 1.0)
    blurred = cv2.GaussianBlur(picture, (0, 0), 2)
    kept = thin(blurred) > 0.3 * blurred.max()
    inside = (slice(8, -8),) * 2
    assert (kept[inside] == (picture[inside] > 0)).all()


def test_thinning_keeps_a_flat_map():
    flat = np.full((20, 20), 0.3, np.float32)
    assert np.array_equal(thin(flat), flat)


def maximum_matching(answered: np.ndarray, true: np.ndarray, distance: float) -> int:
    """Kuhn's algorithm: an augmenting path for one answered pixel after the other."""
    index = {tuple(place): number for number, place in enumerate(np.argwhere(true).tolist())}
    reach = range(-int(distance), int(distance) + 1)
    near = [(y, x) for y in reach for x in reach if y * y + x * x <= distance * distance]
    partners = [
        [index[y + dy, x + dx] for dy, dx in near if (y + dy, x + dx) in index]
        for y, x in np.argwhere(answered).tolist()
    ]
    owner: dict[int, int] = {}

    def give(pixel: int, asked: set[int]) -> bool:
        for place in partners[pixel]:
            if place not in asked:
                asked.add(place)
                if place not in owner or give(owner[place], asked):
                    owner[place] = pixel
                    return True
        return False

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        return sum(give(pixel, set()) for pixel in range(len(partners)))
    finally:
        sys.setrecursionlimit(limit)


def noisy_answer(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The true edges moved by a pixel or two, blurred, with holes and noise: what a trained network gives."""
    size = len(truth)
    move = cv2.getRotationMatrix2D((size / 2, size / 2), rng.normal(), 1 + 0.01 * rng.normal())
    move[:, 2] += 1.2 * rng.normal(size=2)
    moved = cv2.GaussianBlur(cv2.warpAffine(truth.astype(np.float32), move, (size, size)), (0, 0), 1.3) * 1.8
    holes = cv2.GaussianBlur(rng.normal(size=truth.shape).astype(np.float32), (0, 0), 12) * 12 + 1
    noise = np.abs(cv2.GaussianBlur(rng.normal(size=truth.shape).astype(np.float32), (0, 0), 2))
    return np.clip(moved * holes.clip(0, 2) + 0.8 * noise, 0, 1)


def drawn_edges(rng: np.random.Generator, size: int = 224) -> np.ndarray:
    """Outlines of turned boxes and ellipses, one pixel wide."""
    edge = np.zeros((size, size), np.uint8)
    for _ in range(5):
        centre, sides = rng.uniform(30, size - 30, 2), rng.uniform(20, 90, 2)
        box = (centre.tolist(), sides.tolist(), float(rng.uniform(0, 180)))
        cv2.polylines(edge, [cv2.boxPoints(box).astype(np.int32)], True, 1)
        cv2.ellipse(edge, box, 1)
    return edge


def test_quick_f_measure_is_within_four_percent_of_a_maximum_matching():
    rng = np.random.default_rng(3)
    thresholds = np.array([0.2, 0.4, 0.6], np.float32)
    quick, exact, answered, true = np.zeros(3), np.zeros(3), np.zeros(3), 0.0
    for _ in range(3):
        truth = drawn_edges(rng)
        answer = noisy_answer(truth, rng)
        pairs, found, wanted = match_counts(answer, truth, thresholds)
        ridges = thin(answer)
        quick, answered, true = quick + pairs, answered + found, true + wanted[0]
        for number, threshold in enumerate(thresholds):
            exact[number] += maximum_matching(ridges >= threshold, truth == 1, MAX_DISTANCE * math.hypot(224, 224))
    quick_f, exact_f = 2 * quick / (answered + true), 2 * exact / (answered + true)
    assert exact_f.max() > 0.4  # a case worth the name
    assert quick_f == pytest.approx(exact_f, rel=0.04)


def test_all_thresholds_together_equal_each_alone():
    rng = np.random.default_rng(5)
    truth = drawn_edges(rng)
    answer = noisy_answer(truth, rng)
    together = match_counts(answer, truth, EdgeF.thresholds_T)
    for number in (0, 11, 24, 48):
        alone = match_counts(answer, truth, EdgeF.thresholds_T[number : number + 1])
        assert together[:, number].tolist() == alone[:, 0].tolist()


def test_half_of_the_published_thresholds_find_nearly_all_of_the_score():
    """The published evaluation tries 99 thresholds, .01 to .99; ours are every second of them."""
    between = np.linspace(0.01, 0.99, 50).astype(np.float32)
    both = np.sort(np.concatenate([EdgeF.thresholds_T, between]))
    assert both == pytest.approx(np.linspace(0.01, 0.99, 99), abs=1e-6)
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        ours, others = np.zeros((3, 49)), np.zeros((3, 50))
        for _ in range(3):
            truth = drawn_edges(rng)
            answer = noisy_answer(truth, rng)
            ours += match_counts(answer, truth, EdgeF.thresholds_T)
            others += match_counts(answer, truth, between)
        best = [float((2 * pairs / (answered + true)).max()) for pairs, answered, true in (ours, others)]
        assert best[0] > 0.5 and max(best) - best[0] < 0.003


def test_perfect_answer_scores_one_and_an_empty_one_nothing():
    truth = line(100)
    for answer, value in ((truth.astype(np.float32), 1.0), (np.zeros((224, 224), np.float32), 0.0)):
        assert float(EdgeF().value(EdgeF().sums(answer, truth))) == value
