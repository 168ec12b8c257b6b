"""GET /metrics. Who may read it was checked before (`auth`)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from .metrics import Metrics

_EXAMPLE = 'slimpath_inferences_total{model="m3vit_nano",outcome="answered"} 12.0\n'


def make_metrics_route(metrics: Metrics) -> APIRouter:
    """The route for Prometheus."""
    router = APIRouter(tags=["Observability"])
    content = {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "Metrics in the text form of Prometheus, or as OpenMetrics.", "content": content}
    }

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=answers)
    async def metrics_page(request: Request) -> Response:
        body, content_type = await run_in_threadpool(metrics.render, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return router
