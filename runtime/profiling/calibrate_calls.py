"""Whole calls on random configurations: some to fit the fixed part of a call to, the others to test predictions."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..bundles.graph_spec import FULL_PRECISION, GraphSpec
from ..planning.plan import Plan
from .calibrate_bench import IMAGE_SIZES_HW, Workbench, resized
from .profile_data import CallFit, CallPoint
from .profile_model import fit_terms

if TYPE_CHECKING:
    from ..engine import Engine


@dataclass(frozen=True)
class CallSpec:
    """A configuration and the size of the picture that it gets."""

    plan: Plan
    image_hw: tuple[int, int]
    fitted: bool

    def __str__(self) -> str:
        return f"whole call, {len(self.plan.decoder_widths)} tasks, encoder {self.plan.encoder_width:g}"

    def as_point(self, median_ms: float, p95_ms: float, runs: int) -> CallPoint:
        plan = self.plan
        where = (self.image_hw, plan.size_hw, plan.encoder_width, plan.top_k, dict(plan.decoder_widths), plan.precision)
        return CallPoint(*where, median_ms, p95_ms, runs, self.fitted)


def draw_calls(engine: Engine, files: Collection[str], count: int, *, seed: int = 0) -> list[CallSpec]:
    """Random configurations out of the graphs named by `files`: any number of tasks, any widths, any picture size.

    Of every three, nothing is to be fitted to the last. None where `files` hold no encoder with a head.
    """
    rng = random.Random(seed)
    graphs = [graph for graph in engine.bundle.manifest.graphs if graph.file in files]
    encoders = [graph for graph in graphs if graph.kind == "encoder" and _heads_at(graphs, graph)]
    if not encoders:
        return []
    drawn = [(_draw(engine, rng.choice(encoders), graphs, rng), rng.choice(IMAGE_SIZES_HW)) for _ in range(count)]
    return [CallSpec(plan, image_hw, fitted=number % 3 != 2) for number, (plan, image_hw) in enumerate(drawn)]


def _draw(engine: Engine, encoder: GraphSpec, graphs: Sequence[GraphSpec], rng: random.Random) -> Plan:
    manifest = engine.bundle.manifest
    heads = _heads_at(graphs, encoder)
    tasks = sorted({graph.task or "" for graph in heads})
    chosen = rng.sample(tasks, rng.randint(1, len(tasks)))
    top_ks = engine.planner.top_ks(encoder.width)
    top_k = top_ks[rng.randint(1, len(top_ks)) - 1] if manifest.is_moe else 0
    widths = {task: rng.choice([head.width for head in heads if head.task == task]) for task in chosen}
    base = engine.planner.plan(chosen, size=encoder.size_hw)
    wanted = replace(base, encoder_width=encoder.width, top_k=top_k, decoder_widths=widths, precision=encoder.precision)
    return engine.planner.plan(None, wanted)


def _heads_at(graphs: Sequence[GraphSpec], encoder: GraphSpec) -> list[GraphSpec]:
    """Heads that a plan with this encoder could use: of its size; of its precision or, where there is none, fp32."""
    here = [graph for graph in graphs if graph.kind == "head" and graph.size_hw == encoder.size_hw]
    same = [graph for graph in here if graph.precision == encoder.precision]
    found = {(graph.task, graph.width) for graph in same}
    return same + [
        graph for graph in here if graph.precision == FULL_PRECISION and (graph.task, graph.width) not in found
    ]


def call_run(engine: Engine, bench: Workbench, spec: CallSpec) -> Callable[[], object]:
    """Makes the call, on another picture each time."""
    pictures = [resized(picture, spec.image_hw) for picture in bench.pictures]
    state = {"next": 0}

    def run() -> object:
        state["next"] = (state["next"] + 1) % len(pictures)
        return engine(pictures[state["next"]], budget=spec.plan)

    return run


def fit_calls(tasks: Sequence[int], parts_ms: Sequence[float], measured_ms: Sequence[float]) -> CallFit:
    """What a call adds to its parts, from how long calls took.

    Args:
        tasks: how many each call had.
        parts_ms: what its parts took by themselves, added up.
    """
    if not measured_ms:
        return CallFit()
    measured = np.array(measured_ms, float)
    parts = np.array(parts_ms, float)
    ratio = float(np.median(measured / parts))
    # Relative errors count; a few calls that a burst of other work hit do not: they are weighted down, twice over.
    weights = 1 / measured
    fit = CallFit(factor=ratio)
    for _ in range(3):
        terms = np.stack([np.ones(len(parts)), np.array(tasks, float), parts], axis=1)
        call_ms, task_ms, factor = fit_terms(terms * weights[:, None], measured * weights).tolist()
        fit = CallFit(call_ms, task_ms, factor)
        missed = np.abs(terms @ [call_ms, task_ms, factor] / measured - 1)
        scale = max(float(np.median(missed)), 1e-3)
        weights = 1 / (measured * np.maximum(missed / (2 * scale), 1))
    return fit
