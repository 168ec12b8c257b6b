"""A plan in words: what it costs part by part, how good it is, and what its neighbours lose and gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .output import human_flops, percent, print_table

if TYPE_CHECKING:
    from ..runtime import Manifest, Plan
    from ..runtime.bundles.accuracy import Accuracy
    from ..runtime.planning.costs import PartCost

UNKNOWN = "?"


@dataclass(frozen=True)
class Change:
    """How another plan's accuracy of one task differs; `gain` is above 0 where the other is better."""

    task: str
    metric: str
    gain: float
    within_noise: bool


def changes(manifest: Manifest, chosen: Plan, other: Plan) -> list[Change]:
    """What `other` loses and gains against `chosen`, of the tasks that were measured in both."""
    found = []
    for task in chosen.tasks:
        before, after = point_of(manifest, chosen, task), point_of(manifest, other, task)
        if before is not None and after is not None:
            gain = (after.value - before.value) * (1 if before.higher_is_better else -1)
            # The interval of either: a difference that lies within one of them may be none.
            inside = any(
                a.ci_low is not None and a.ci_high is not None and a.ci_low <= b.value <= a.ci_high
                for a, b in ((before, after), (after, before))
            )
            found.append(Change(task, before.metric, gain, inside))
    return found


def point_of(manifest: Manifest, plan: Plan, task: str) -> Accuracy | None:
    """The manifest's measurement of one task under a plan."""
    wanted = (task, plan.size_hw, plan.precision, plan.encoder_width, plan.top_k, plan.decoder_widths[task])
    for a in manifest.accuracies:
        top_k = a.top_k if manifest.is_moe else 0
        if wanted == (
            a.task, a.size_hw or manifest.sizes[0], a.precision, a.encoder_width, top_k, a.decoder_width
        ):  # fmt: skip
            return a
    return None


def print_plan(manifest: Manifest, chosen: Plan, why_flops: str) -> None:
    """The table of parts, and below it what has to be known about the figures."""
    has_time, has_energy = chosen.latency_ms is not None, chosen.energy_mj is not None
    columns = ["part", "width", *(["time"] if has_time else []), "compute", "weights"]
    columns += [*(["energy"] if has_energy else []), "quality", "accuracy"]
    rows = []
    for name, cost in chosen.parts:
        if name == "call" and not has_time:
            continue  # it has no FLOPs and no weights
        width = {"call": "", "encoder": f"{chosen.encoder_width:g}"}.get(name) or chosen.decoder_widths.get(name, "")
        kept = chosen.qualities.get(name)
        quality = "" if kept is None else percent(kept)
        accuracy = accuracy_text(manifest, chosen, name) if name in chosen.tasks else ""
        rows.append(
            [
                name,
                width if isinstance(width, str) else f"{width:g}",
                *_costs(cost, has_time, has_energy),
                quality,
                accuracy,
            ]
        )
    print_table(title_of(chosen), columns, rows, numeric=tuple(range(1, len(columns) - 1)))
    for line in _notes(chosen, why_flops):
        print(line)


def title_of(plan: Plan) -> str:
    """The whole plan in one line."""
    time = "" if plan.latency_ms is None else f"{plan.latency_ms:.3g} ms (95 %: {plan.p95_ms:.3g}), "
    energy = "" if plan.energy_mj is None else f", {plan.energy_mj:.3g} mJ"
    experts = f", top_k {plan.top_k}" if plan.top_k else ""
    precision = "" if plan.precision == "fp32" else f", {plan.precision}"
    return (
        f"{time}{human_flops(plan.flops)}, {percent(plan.share)} of full, {plan.memory_mb:.3g} MB{energy}, "
        f"{plan.size_hw[0]}x{plan.size_hw[1]}{experts}{precision}"
    )


def _costs(cost: PartCost, has_time: bool, has_energy: bool) -> list[str]:
    mark = "" if cost.measured else "~"
    time = [UNKNOWN if cost.latency_ms is None else f"{mark}{cost.latency_ms:.3g} ms"] if has_time else []
    energy = [UNKNOWN if cost.energy_mj is None else f"{mark}{cost.energy_mj:.3g} mJ"] if has_energy else []
    compute = human_flops(cost.flops) if cost.flops else ""
    return [*time, compute, f"{cost.weights_mb:.3g} MB" if cost.weights_mb else "", *energy]


def _notes(chosen: Plan, why_flops: str) -> list[str]:
    notes = []
    if not chosen.budget_met:
        kept = "" if chosen.unmet == (chosen.budget,) else f" ({' and '.join(chosen.unmet)} is not kept)"
        notes.append(f"The budget {chosen.budget} is not met{kept}: nothing comes nearer.")
    if chosen.scored_by == "flops" and None in chosen.accuracies.values():
        notes.append("Ordered by cost alone: accuracies are unmeasured, or no measured choice fits.")
    if chosen.costed_by == "flops":
        notes.append(f'Costs are FLOPs and weights from the manifest; profile: {why_flops} ("slimpath calibrate").')
    elif any(not cost.measured for _, cost in chosen.parts):
        notes.append("~ interpolated from what was measured on this device.")
    return notes


def accuracy_text(manifest: Manifest, plan: Plan, task: str) -> str:
    """A measured accuracy with its metric and its interval, or "unmeasured"."""
    point = point_of(manifest, plan, task)
    if point is None:
        return "unmeasured"
    spread = "" if point.ci_low is None or point.ci_high is None else f" ({point.ci_low:.4g} to {point.ci_high:.4g})"
    return f"{point.value:.4g}{spread} {point.metric}, {'higher' if point.higher_is_better else 'lower'} is better"


def print_neighbours(manifest: Manifest, cheaper: Plan | None, chosen: Plan, dearer: Plan | None) -> None:
    """The plans before and after, and what would be lost or gained."""
    print_choices(
        "neighbours",
        [(name, plan) for name, plan in (("cheaper", cheaper), ("chosen", chosen), ("dearer", dearer)) if plan],
    )
    for name, other in (("cheaper", cheaper), ("dearer", dearer)):
        text = f"there is no {name} one" if other is None else _trade(manifest, chosen, other)
        print(f"{name}: {text}")


def _trade(manifest: Manifest, chosen: Plan, other: Plan) -> str:
    if chosen.latency_ms is not None and other.latency_ms is not None:
        cost = f"{other.latency_ms - chosen.latency_ms:+.3g} ms"
    else:
        difference = other.flops - chosen.flops
        cost = f"{'+' if difference >= 0 else '-'}{human_flops(abs(difference))}"
    found = changes(manifest, chosen, other)
    parts = [_change_text(change) for change in found if change.gain]
    if len(found) < len(chosen.tasks):
        parts.append("accuracy unmeasured" if not found else "the other tasks unmeasured")
    return f"{cost}; {', '.join(parts) or 'the same measured accuracy'}"


def _change_text(change: Change) -> str:
    noise = " (within its error)" if change.within_noise else ""
    return f"{change.task} {'better' if change.gain > 0 else 'worse'} by {abs(change.gain):.2g} {change.metric}{noise}"


def print_choices(title: str, choices: Sequence[tuple[str, Plan]]) -> None:
    """One line per plan."""
    has_time = all(plan.latency_ms is not None for _, plan in choices)
    columns = ["", *(["time"] if has_time else []), "compute", "of full", "encoder", "top_k", "decoders"]
    rows = [_choice_row(name, plan, has_time) for name, plan in choices]
    print_table(title, columns, rows, numeric=tuple(range(1, len(columns) - 1)))


def _choice_row(name: str, plan: Plan, has_time: bool) -> list[object]:
    widths = set(plan.decoder_widths.values())
    decoders = ", ".join(f"{task} {width:g}" for task, width in plan.decoder_widths.items())
    time = [f"{plan.latency_ms:.3g} ms"] if has_time else []
    extra = "" if plan.precision == "fp32" else f" {plan.precision}"
    return [
        name, *time, human_flops(plan.flops), f"{100 * plan.share:.1f} %", f"{plan.encoder_width:g}{extra}",
        plan.top_k or "-", f"all {widths.pop():g}" if len(widths) == 1 else decoders,
    ]  # fmt: skip
