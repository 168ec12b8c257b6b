"""The relative gain over single-task models against published tables."""

from __future__ import annotations

import pytest

from slimpath.training.errors import EvaluationError
from slimpath.training.relative import delta_m

TASKS = ("semseg", "normals", "human_parts", "saliency", "edge")
# M3ViT (Fan et al. 2022), table 1, PASCAL-Context: single-task ResNet-18, then models with the delta_m printed there.
SINGLE = (66.2, 13.9, 59.9, 66.3, 68.8)
PUBLISHED = {
    "MTL-B": ((63.8, 14.9, 58.6, 65.1, 69.2), -2.86),
    "MTAN": ((63.7, 14.8, 58.9, 65.4, 69.6), -2.39),
    "Cross-Stitch": ((66.1, 13.9, 60.6, 66.8, 69.9), 0.60),
    "M-ViT": ((70.7, 15.5, 58.7, 64.9, 68.8), -1.77),
    "M2ViT": ((72.8, 14.5, 62.1, 66.3, 71.7), 2.71),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_delta_m_is_the_one_that_m3vit_prints(model: str):
    scores, printed = PUBLISHED[model]
    found = delta_m(dict(zip(TASKS, scores)), dict(zip(TASKS, SINGLE)), frozenset({"normals"}))
    # The metrics have one digit: half a tenth of a degree, of 13.9, is 0.07 points.
    assert found == pytest.approx(printed, abs=0.1)


def test_tasks_that_differ_or_a_zero_are_refused():
    with pytest.raises(EvaluationError, match="same tasks"):
        delta_m({"depth": 1.0}, {"edge": 1.0}, frozenset())
    with pytest.raises(EvaluationError, match="is 0"):
        delta_m({"edge": 1.0}, {"edge": 0.0}, frozenset())
