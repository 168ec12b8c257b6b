"""Bundle -> answers: planned, batched, timed. Names load on first use, so importing this touches no library."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import Budget, parse_budget
    from .bundle import Bundle
    from .bundled import bundled_path
    from .engine import Engine
    from .errors import (
        BackendError,
        BudgetError,
        BundleError,
        GraphError,
        ImageError,
        InfeasibleBudgetError,
        ManifestError,
        SizeError,
        SlimpathError,
        TaskError,
        WeightsError,
    )
    from .images import LoadedImage, load_image
    from .manifest import Manifest
    from .planner import Plan, Planner
    from .preprocess import Placement
    from .request import Request
    from .result import Result
    from .tasks import TaskSpec, parse_tasks

_HOME = {
    "Budget": "budget",
    "parse_budget": "budget",
    "Bundle": "bundle",
    "bundled_path": "bundled",
    "Engine": "engine",
    "BackendError": "errors",
    "BudgetError": "errors",
    "BundleError": "errors",
    "GraphError": "errors",
    "ImageError": "errors",
    "InfeasibleBudgetError": "errors",
    "ManifestError": "errors",
    "SizeError": "errors",
    "SlimpathError": "errors",
    "TaskError": "errors",
    "WeightsError": "errors",
    "LoadedImage": "images",
    "load_image": "images",
    "Manifest": "manifest",
    "Plan": "planner",
    "Planner": "planner",
    "Placement": "preprocess",
    "Request": "request",
    "Result": "result",
    "TaskSpec": "tasks",
    "parse_tasks": "tasks",
}
__all__ = [
    "BackendError",
    "Budget",
    "BudgetError",
    "Bundle",
    "BundleError",
    "Engine",
    "GraphError",
    "ImageError",
    "InfeasibleBudgetError",
    "LoadedImage",
    "Manifest",
    "ManifestError",
    "Placement",
    "Plan",
    "Planner",
    "Request",
    "Result",
    "SizeError",
    "SlimpathError",
    "TaskError",
    "TaskSpec",
    "WeightsError",
    "bundled_path",
    "load_image",
    "parse_budget",
    "parse_tasks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
