"""Which encoders and batches a GPU gets."""

from __future__ import annotations

import msgspec
import pytest

from slimpath.export.errors import ExportError
from slimpath.export.gpu.configurations import (
    checked_batches,
    chosen_configurations,
    default_batches,
    pareto_configurations,
)
from slimpath.runtime.bundles.accuracy import Accuracy
from slimpath.runtime.bundles.manifest import Manifest
from slimpath.runtime.bundles.manifest_parts import Cost
from slimpath.tests.runtime.plan_cases import accuracy, make_manifest

WIDTHS = (0.25, 0.5, 1.0)
ENCODERS = {width: Cost(0, int(100 * width), int(100 * width)) for width in WIDTHS}


def manifest(accuracies: tuple[Accuracy, ...] = ()) -> Manifest:
    return make_manifest(ENCODERS, {"depth": {1.0: 10}, "edge": {1.0: 10}}, 3, accuracies)


def measured(values: dict[tuple[float, int], float]) -> Manifest:
    return manifest(
        tuple(accuracy(task, *point, 1.0, value) for task in ("depth", "edge") for point, value in values.items())
    )


def test_only_encoders_that_nothing_beats_are_taken() -> None:
    """More experts do harm at width 0.25 here, and width 0.5 is worse than 0.25."""
    values = {(0.25, 1): 0.5, (0.25, 2): 0.49, (0.25, 3): 0.48, (0.5, 1): 0.4, (0.5, 2): 0.4, (0.5, 3): 0.4}
    values |= {(1.0, 1): 0.8, (1.0, 2): 0.9, (1.0, 3): 0.85}
    chosen, source = pareto_configurations(measured(values))
    assert chosen == ((0.25, 1), (1.0, 1), (1.0, 2))
    assert source == "3 of the 3 encoders of the Pareto set by measured accuracies"


def test_of_many_the_cheapest_the_dearest_and_what_spreads_between_are_taken() -> None:
    chosen, source = pareto_configurations(manifest())
    assert len(chosen) == 4 and chosen[0] == (0.25, 1) and chosen[-1] == (1.0, 3)
    assert "FLOPs alone" in source and "4 of the 7" in source  # two pairs cost the same
    assert pareto_configurations(manifest(), 1)[0] == ((1.0, 3),)
    assert len(pareto_configurations(manifest(), 99)[0]) == 7


def test_what_was_asked_for_is_taken_once_narrowest_first() -> None:
    assert chosen_configurations(manifest(), [(1.0, 3), (0.5, 2), (1.0, 3)]) == (((0.5, 2), (1.0, 3)), "chosen")


@pytest.mark.parametrize(("wanted", "message"), [((0.3, 1), "width 0.3"), ((0.5, 4), "1 to 3"), ((0.5, 0), "1 to 3")])
def test_refuses_what_the_bundle_does_not_have(wanted: tuple[float, int], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        chosen_configurations(manifest(), [wanted])


def test_a_model_without_experts_has_no_top_k() -> None:
    dense = make_manifest({1.0: Cost(1, 1)}, {"depth": {1.0: 1}}, 0)
    assert pareto_configurations(dense)[0] == ((1.0, 0),)
    with pytest.raises(ExportError, match="no experts"):
        chosen_configurations(dense, [(1.0, 1)])
    assert default_batches(dense) == ((1, 1),)
    with pytest.raises(ExportError, match="share an image's row"):
        checked_batches(dense, [(1, 2)])


def test_batches_are_one_image_with_one_task_and_with_all() -> None:
    assert default_batches(manifest()) == ((1, 1), (1, 2))
    assert checked_batches(manifest(), [(2, 4), (1, 2), (1, 2)]) == ((1, 2), (2, 4))
    assert default_batches(msgspec.structs.replace(manifest(), tasks=manifest().tasks[:1])) == ((1, 1),)
