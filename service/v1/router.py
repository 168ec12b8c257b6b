"""The paths of /v1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from .infer import Infer
from .models import Models
from .openapi import infer_operation, models_operation, plan_operation

if TYPE_CHECKING:
    from ..registry import ModelRegistry
    from ..settings import LimitSettings


def make_router(registry: ModelRegistry, limits: LimitSettings) -> APIRouter:
    """Everything below /v1, answered by the models of `registry`."""
    router = APIRouter(prefix="/v1", tags=["v1"])
    models = Models(registry, limits)
    router.add_api_route(
        "/infer", Infer(registry, limits).answer, methods=["POST"], summary="Run tasks on an image",
        response_model=None, openapi_extra=infer_operation(),
    )  # fmt: skip
    router.add_api_route(
        "/models", models.list_models, methods=["GET"], summary="What is served", response_model=None,
        openapi_extra=models_operation(),
    )  # fmt: skip
    router.add_api_route(
        "/plan", models.plan, methods=["GET"], summary="What a budget would buy", response_model=None,
        openapi_extra=plan_operation(),
    )  # fmt: skip
    return router
