"""A plan as /v1 tells it: the configuration, what it was expected to cost, and in words why it is this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .schemas import ModelRef, PlanInfo, PlannedCost, PredictedCost

if TYPE_CHECKING:
    from ...runtime.planning.plan import Plan
    from ..model import Model


def model_ref(model: Model) -> ModelRef:
    """Which model it is; the digest is long enough to tell bundles apart."""
    return ModelRef(model.name, model.version, model.bundle.digest[:16])


def plan_info(plan: Plan, backend: str, *, asked: Plan | None = None, why_narrower: str = "") -> PlanInfo:
    """The plan that ran.

    Args:
        asked: the plan without load and deadline, where the one that ran is narrower.
        why_narrower: what made it so, to follow "narrowed ...: ".
    """
    return PlanInfo(
        size_hw=plan.size_hw,
        encoder_width=plan.encoder_width,
        top_k=plan.top_k,
        decoder_widths=plan.decoder_widths,
        precision=plan.precision,
        flops=plan.flops,
        share=plan.share,
        tasks=plan.tasks,
        budget=(asked or plan).budget,
        budget_met=(asked or plan).budget_met,
        unmet=list((asked or plan).unmet),
        scored_by=plan.scored_by,
        costed_by=plan.costed_by,
        backend=backend,
        reasons=reasons(plan, asked, why_narrower),
    )


def predicted(plan: Plan) -> PredictedCost:
    """What the plan costs by the cost model."""
    return PredictedCost(plan.flops, plan.memory_mb, plan.latency_ms, plan.p95_ms, plan.energy_mj)


def planned(plan: Plan, backend: str) -> PlannedCost:
    """A plan that is only looked at."""
    return PlannedCost(plan_info(plan, backend), predicted(plan), plan.qualities)


def reasons(plan: Plan, asked: Plan | None, why_narrower: str) -> list[str]:
    """Why this plan: the budget, the load, what it was chosen by, and where its costs come from."""
    wish = asked or plan
    found = [_budget_reason(wish)]
    if asked is not None:
        found.append(f"narrowed from {asked.share:.0%} to {plan.share:.0%} of the full compute: {why_narrower}")
    if wish.budget != "full":
        by = "measured accuracies" if wish.scored_by == "accuracy" else "compute, as not every accuracy was measured"
        found.append(f"chosen by {by}")
    if wish.costed_by == "profile":
        found.append("costs were measured on this device")
    else:
        found.append("costs are counted in FLOPs: this device has no profile (slimpath calibrate)")
    return found


def _budget_reason(wish: Plan) -> str:
    floors = ", ".join(f"{task}>={floor:g}" for task, floor in wish.floors.items())
    kept = f" that keeps {floors}" if floors and wish.budget_met else ""
    if not wish.budget_met:
        return f"nothing keeps {' and '.join(wish.unmet) or wish.budget}; this comes nearest"
    if wish.budget == "full":
        return f"no limit was set: the full configuration{kept}" if wish.share >= 1 else f"no limit was set{kept}"
    if wish.budget == "min":
        return f"the cheapest configuration{kept}"
    return f"the best configuration within {wish.budget}{kept}"
