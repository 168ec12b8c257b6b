"""GET /v1/models and GET /v1/plan: what is served, and what a budget would buy, without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from .formats import FORMATS_BY_KIND
from .parsing import check_tasks, parse_query, read_options
from .plans import model_ref, planned
from .schemas import ModelInfo, ModelsAnswer, Name, Options, PlanAnswer, TaskInfo, Text

if TYPE_CHECKING:
    from ..model import Model
    from ..registry import ModelRegistry
    from ..settings import LimitSettings

CURVE_POINTS = 12


class PlanOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What /v1/plan is asked: the same words as of /v1/infer."""

    tasks: Annotated[Text | None, Meta(description="As of /v1/infer.", examples=["depth=2,edge"])] = None
    budget: Annotated[Text | None, Meta(description="As of /v1/infer.", examples=["0.5"])] = None
    size: Annotated[Text | None, Meta(description="As of /v1/infer.", examples=["224x224"])] = None
    strict: Annotated[bool, Meta(description="Refuse (422) what no configuration can keep.")] = False
    curve: Annotated[bool, Meta(description="Also the choices from cheapest to full.")] = False
    model: Annotated[Name | None, Meta(description="A name of /v1/models; the first one unless given.")] = None


class Models:
    """Answers requests to /v1/models and /v1/plan with the models of a registry."""

    def __init__(self, registry: ModelRegistry, limits: LimitSettings) -> None:
        self._registry = registry
        self._limits = limits

    async def list_models(self, http: Request) -> Response:
        """Every model that answers now."""
        read_options(parse_query(http.scope["query_string"].decode("latin-1")), _NoOptions)
        return _json(ModelsAnswer([model_info(model) for model in self._registry.models()]))

    async def plan(self, http: Request) -> Response:
        """The configuration that a request would get now."""
        options = read_options(parse_query(http.scope["query_string"].decode("latin-1")), PlanOptions)
        check_tasks(Options(tasks=options.tasks), self._limits.max_tasks)
        async with self._registry.use(options.model) as model:
            return _json(await model.scheduler.pool(plan_answer, model, options))


class _NoOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing is asked of /v1/models."""


def plan_answer(model: Model, options: PlanOptions) -> PlanAnswer:
    """Plan for one request. Takes up to some milliseconds for a kind of request that was never made before.

    Raises:
        TaskError, BudgetError, SizeError: as of a request.
    """
    engine, backend = model.engine, model.backend
    chosen = engine.plan(options.tasks, options.budget, size=options.size, strict=options.strict)
    curve = engine.curve(options.tasks, options.budget, size=options.size, points=CURVE_POINTS) if options.curve else []
    return PlanAnswer(model_ref(model), planned(chosen, backend), [planned(plan, backend) for plan in curve])


def model_info(model: Model) -> ModelInfo:
    """What a model can do."""
    manifest = model.bundle.manifest
    return ModelInfo(
        name=model.name,
        version=model.version,
        digest=model.bundle.digest[:16],
        ready=model.ready,
        tasks={
            name: TaskInfo(spec.kind, spec.unit, spec.description, list(spec.classes), list(FORMATS_BY_KIND[spec.kind]))
            for name, spec in model.tasks.items()
        },
        sizes_hw=list(manifest.sizes),
        encoder_widths=list(manifest.widths),
        top_k=manifest.encoder.top_k if manifest.is_moe else 0,
        precisions=list(manifest.precisions),
        backend=model.backend,
        licence=manifest.licence,
        predicts="flops" if model.engine.profile is None else "latency",
    )


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
