"""`slimpath plan`: what a budget buys, without loading a single graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import BackendName, Budget, BundlePath, Debug, Json, Packs, Tasks, load_backend, need, say, verb
from .output import print_json
from .plan_text import changes, print_choices, print_neighbours, print_plan

if TYPE_CHECKING:
    from ..runtime import Bundle, Manifest, Plan, Planner
    from ..runtime.profiling.profile import Profile

CURVE_POINTS = 12


@verb
def plan(
    bundle: BundlePath = None,
    tasks: Tasks = None,
    budget: Budget = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="HxW", help="Input size.", show_default="the best measured one, else the bundle's first"
        ),
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve/--no-curve", help="Also show the choices from cheapest to full.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw accuracy against cost, and what each budget buys; .png, .svg or .pdf. Needs slimpath[plot].",
            show_default="none",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a budget that nothing fits.")] = False,
    backend: BackendName = "onnxruntime",
    profile: Annotated[
        bool, typer.Option("--profile/--no-profile", help="Predict from what `slimpath calibrate` measured here.")
    ] = True,
    pack: Packs = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the configuration that is chosen for tasks and a budget.

    Prints its predicted cost part by part, its measured accuracy per task, and the next cheaper and dearer choices with
    what would be lost or gained. Milliseconds and millijoules need `slimpath calibrate`; without it, FLOPs are counted.

    \b
    Examples:
      slimpath plan --budget 0.5
      slimpath plan --tasks "depth=2,edge" --budget 20ms,300MB
      slimpath plan --tasks "depth>=0.95,semseg" --budget min
      slimpath plan --tasks depth,semseg --budget 0.5 --plot knob.png
      slimpath plan --budget width=0.5,top_k=1 --json
    """
    from ..runtime import Bundle, Planner, bundled_path

    if plot is not None:
        need(("matplotlib",), "plot", "`slimpath plan --plot`")
    opened = Bundle.open(bundle or bundled_path())
    measured, why_not = find_profile(opened, backend) if profile else (None, "not looked for")
    if pack:
        opened = _with_packs(opened, pack)
        measured = measured and measured.of(opened.manifest)
    planner = Planner(opened.manifest, measured, precisions=_runnable(opened, backend))
    chosen = planner.plan(tasks, budget, size=size, strict=strict)
    near = planner.neighbours(chosen, budget, size=size)
    steps = planner.curve(tasks, budget, size=size, points=CURVE_POINTS) if curve else []
    if json:
        _print_document(opened, chosen, near.cheaper, near.dearer, steps)
    else:
        print_plan(opened.manifest, chosen, "" if measured else why_not)
        print_neighbours(opened.manifest, near.cheaper, chosen, near.dearer)
        if steps:
            print_choices("from cheapest to full", [(str(number), step) for number, step in enumerate(steps, 1)])
    if plot is not None:
        from .plan_plot import plot_plan

        path = plot_plan(planner.landscape(tasks, budget, size=size), chosen, opened.manifest, plot)
        say(f"slimpath: wrote {path}")


def _with_packs(bundle: Bundle, packs: list[Path]) -> Bundle:
    from ..runtime.packs.extend import extend
    from ..runtime.packs.pack import Pack

    return extend(bundle, [Pack.open(path) for path in packs])


def _runnable(bundle: Bundle, backend: str) -> tuple[str, ...] | None:
    """Precisions of the bundle's graphs that a backend runs; None for all."""
    if len(bundle.manifest.precisions) == 1 or backend == "auto":  # "auto" would be chosen by measuring
        return None
    from ..runtime.backends import make_backend
    from ..runtime.backends.base import graph_precisions

    return graph_precisions(make_backend(backend, bundle=bundle))


def find_profile(bundle: Bundle, backend: str) -> tuple[Profile | None, str]:
    """This device's profile of a bundle, or None and the reason."""
    from ..runtime.errors import ProfileError
    from ..runtime.profiling.profile import Profile, conditions_of, stored_profiles

    if not stored_profiles(bundle.digest):  # the usual case: nothing needs to be known about the device
        return None, "none on this device"
    try:
        return Profile.find(bundle.manifest, conditions_of(bundle, load_backend(bundle, backend, "fp32"), "packed")), ""
    except ProfileError as error:
        return None, error.message


def _print_document(bundle: Bundle, chosen: Plan, cheaper: Plan | None, dearer: Plan | None, steps: list[Plan]) -> None:
    document = {**chosen.to_json(), "bundle": str(bundle.path), "parts": cost_parts(bundle.manifest, chosen)}
    document["part_costs"] = {name: cost.to_json() for name, cost in chosen.parts}
    for name, other in (("cheaper", cheaper), ("dearer", dearer)):
        document[name] = other and {**other.to_json(), "changes": _changes_json(bundle.manifest, chosen, other)}
    print_json({**document, "curve": [step.to_json() for step in steps]})


def _changes_json(manifest: Manifest, chosen: Plan, other: Plan) -> dict[str, Any]:
    return {
        change.task: {"gain": change.gain, "metric": change.metric, "within_noise": change.within_noise}
        for change in changes(manifest, chosen, other)
    }


def cost_parts(manifest: Manifest, plan: Plan) -> dict[str, int]:
    """FLOPs of a plan's encoder and of each head; their sum is the plan's."""
    return {name: cost.flops for name, cost in plan.parts if name != "call"}


def next_cheaper(planner: Planner, plan: Plan) -> Plan | None:
    """What the planner would choose for a little less; None at the cheapest."""
    return planner.neighbours(plan).cheaper


def next_dearer(planner: Planner, plan: Plan) -> Plan | None:
    """What the planner would choose for the least budget that buys more than `plan`; None at the dearest."""
    return planner.neighbours(plan).dearer
