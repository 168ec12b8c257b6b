"""Which encoders a GPU gets: engines are built one by one and hold their own weights, so there are a few of the Pareto
set, not one for every width and top-k."""

from collections.abc import Sequence

from ...runtime.bundles.manifest import Manifest
from ...runtime.planning.planner import Planner
from ..errors import ExportError

Configuration = tuple[float, int]  # encoder width, top-k (0 without experts)
DEFAULT_COUNT = 4
_CURVE_POINTS = 1000  # more than any Pareto set here has


def pareto_configurations(manifest: Manifest, count: int = DEFAULT_COUNT) -> tuple[tuple[Configuration, ...], str]:
    """Up to `count` encoders of the planner's Pareto set for all tasks, cheapest first, and what that set rests on.

    Of more, those are taken that spread the FLOPs most evenly, the cheapest and the dearest among them.
    """
    plans = Planner(manifest).curve(None, points=_CURVE_POINTS)
    flops = {}
    for plan in plans:
        cost = dict(plan.parts)["encoder"].flops
        flops[plan.encoder_width, plan.top_k] = cost
    ordered = sorted(flops, key=lambda one: flops[one])
    chosen = _spread(ordered, [flops[one] for one in ordered], count)
    measured = plans[0].scored_by == "accuracy"
    basis = "measured accuracies" if measured else "FLOPs alone (accuracies are unmeasured)"
    return tuple(chosen), f"{len(chosen)} of the {len(ordered)} encoders of the Pareto set by {basis}"


def chosen_configurations(manifest: Manifest, wanted: Sequence[Configuration]) -> tuple[tuple[Configuration, ...], str]:
    """The configurations that were asked for, narrowest first.

    Raises:
        ExportError: a width or a top-k that the bundle does not have.
    """
    most = manifest.encoder.top_k
    for width, top_k in wanted:
        if width not in manifest.widths:
            listed = ", ".join(f"{one:g}" for one in manifest.widths)
            raise ExportError(f"no encoder of width {width:g}; the bundle has {listed}")
        if not (1 <= top_k <= most if most else top_k == 0):
            expected = f"1 to {most}" if most else "left out: the model has no experts"
            raise ExportError(f"top-k must be {expected}, got {top_k}")
    return tuple(sorted(set(wanted))), "chosen"


def default_batches(manifest: Manifest) -> tuple[tuple[int, int], ...]:
    """(images, rows): one image with one task, and one image with all; without rows of tasks one image is all."""
    every = len(manifest.task_names)
    return ((1, 1), (1, every)) if manifest.rows_per_task and every > 1 else ((1, 1),)


def checked_batches(manifest: Manifest, batches: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Batches that the model can have, fewest rows first.

    Raises:
        ExportError: no images, fewer rows than images, or rows of tasks where all tasks share one.
    """
    for images, rows in batches:
        if images < 1 or rows < images:
            raise ExportError(f"a batch needs at least one image and a row for each, got {images} and {rows}")
        if rows != images and not manifest.rows_per_task:
            raise ExportError(f"all tasks share an image's row here: rows are as many as images, got {images}x{rows}")
    return tuple(sorted(set(batches), key=lambda batch: (batch[1], batch[0])))


def _spread(ordered: list[Configuration], flops: list[int], count: int) -> list[Configuration]:
    if len(ordered) <= count:
        return ordered
    if count == 1:
        return ordered[-1:]
    kept = {0, len(ordered) - 1}
    for step in range(1, count - 1):
        goal = flops[0] + (flops[-1] - flops[0]) * step / (count - 1)
        free = [place for place in range(len(ordered)) if place not in kept]
        kept.add(min(free, key=lambda place: abs(flops[place] - goal)))
    return [ordered[place] for place in sorted(kept)]
