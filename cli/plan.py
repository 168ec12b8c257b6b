"""`slimpath plan`: what a budget buys, without loading a single graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Budget, BundlePath, Debug, Json, Tasks, verb
from .output import human_flops, percent, print_json, print_table

if TYPE_CHECKING:
    from ..runtime import Manifest, Plan, Planner

CURVE_POINTS = 12


@verb
def plan(
    bundle: BundlePath = None,
    tasks: Tasks = None,
    budget: Budget = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Input size.", show_default="the first of the bundle")
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve/--no-curve", help="Also show the choices from cheapest to full.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a budget that nothing fits.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the configuration that is chosen for tasks and a budget.

    Prints its predicted cost part by part, its measured accuracy per task, and the next cheaper and dearer choices.

    \b
    Examples:
      slimpath plan --budget 0.5
      slimpath plan --tasks depth=2,edge --budget 300MFLOPs --curve
      slimpath plan --budget width=0.5,top_k=1 --json
    """
    from ..runtime import Bundle, Planner, bundled_path

    opened = Bundle.open(bundle or bundled_path())
    planner = Planner(opened.manifest)
    chosen = planner.plan(tasks, budget, size=size, strict=strict)
    parts = cost_parts(opened.manifest, chosen)
    cheaper, dearer = next_cheaper(planner, chosen), next_dearer(planner, chosen)
    points = planner.curve(chosen.tasks, size=chosen.size_hw, points=CURVE_POINTS) if curve else []
    if json:
        document = {**chosen.to_json(), "bundle": str(opened.path), "parts": parts}
        others = {name: other and other.to_json() for name, other in (("cheaper", cheaper), ("dearer", dearer))}
        print_json({**document, **others, "curve": [point.to_json() for point in points]})
        return
    _print_plan(opened.manifest, chosen, parts)
    named = (("cheaper", cheaper), ("chosen", chosen), ("dearer", dearer))
    _print_choices("neighbours", [(name, other) for name, other in named if other is not None])
    if points:
        _print_choices("from cheapest to full", [(str(number), point) for number, point in enumerate(points, 1)])


def cost_parts(manifest: Manifest, plan: Plan) -> dict[str, int]:
    """FLOPs of a plan's encoder and of each head; their sum is the plan's."""
    wanted = {(task, width) for task, width in plan.decoder_widths.items()}
    heads = {
        graph.task: graph.cost.flops_row
        for graph in manifest.graphs
        if graph.task is not None and graph.size_hw == plan.size_hw and (graph.task, graph.width) in wanted
    }
    return {"encoder": plan.flops - sum(heads.values()), **{task: heads[task] for task in plan.decoder_widths}}


def next_cheaper(planner: Planner, plan: Plan) -> Plan | None:
    """What the planner would choose for one FLOP less; None at the cheapest."""
    found = planner.plan(plan.tasks, f"{plan.flops - 1}FLOPs", size=plan.size_hw)
    return found if found.budget_met and found.flops < plan.flops else None


def next_dearer(planner: Planner, plan: Plan) -> Plan | None:
    """What the planner would choose for the least budget that buys more than `plan`; None at the dearest."""

    def buys(flops: int) -> Plan:
        return planner.plan(plan.tasks, f"{flops}FLOPs", size=plan.size_hw)

    low, high = plan.flops, planner.full_flops(plan.tasks, plan.size_hw)
    if buys(high).flops <= low:
        return None
    while high - low > 1:  # what a budget buys never shrinks as it grows, so halving finds the step: some 30 look-ups
        middle = (low + high) // 2
        low, high = (low, middle) if buys(middle).flops > plan.flops else (middle, high)
    return buys(high)


def _print_plan(manifest: Manifest, chosen: Plan, parts: dict[str, int]) -> None:
    experts = f", top_k {chosen.top_k}" if chosen.top_k else ""
    rows: list[tuple[object, ...]] = [("encoder", f"{chosen.encoder_width:g}", human_flops(parts["encoder"]), "")]
    for task, width in chosen.decoder_widths.items():
        rows.append(
            (task, f"{width:g}", human_flops(parts[task]), accuracy_text(manifest, task, chosen.accuracies.get(task)))
        )
    size = f"{chosen.size_hw[0]}x{chosen.size_hw[1]}"
    title = f"{human_flops(chosen.flops)}, {percent(chosen.share)} of full, {size}{experts}"
    print_table(title, ("part", "width", "cost", "accuracy"), rows, numeric=(1, 2))
    if not chosen.budget_met:
        print(f"The budget {chosen.budget} is not met: nothing smaller exists.")
    if chosen.scored_by == "flops":
        print("Ordered by cost alone: accuracies are unmeasured, or no measured choice fits.")


def accuracy_text(manifest: Manifest, task: str, value: float | None) -> str:
    """A measured accuracy with its metric, or "unmeasured"."""
    if value is None:
        return "unmeasured"
    point = next(point for point in manifest.accuracies if point.task == task)
    return f"{value:.4g} {point.metric} ({'higher' if point.higher_is_better else 'lower'} is better)"


def _print_choices(title: str, choices: list[tuple[str, Plan]]) -> None:
    rows = [_choice_row(name, choice) for name, choice in choices]
    print_table(title, ("", "encoder", "top_k", "decoders", "cost", "of full"), rows, numeric=(1, 2, 4, 5))


def _choice_row(name: str, choice: Plan) -> tuple[Any, ...]:
    decoders = ", ".join(f"{task} {width:g}" for task, width in choice.decoder_widths.items())
    widths = set(choice.decoder_widths.values())
    shown = f"all {widths.pop():g}" if len(widths) == 1 else decoders
    return (
        name,
        f"{choice.encoder_width:g}",
        choice.top_k or "-",
        shown,
        human_flops(choice.flops),
        f"{100 * choice.share:.1f} %",
    )
