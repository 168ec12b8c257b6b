"""Bundle -> answers: planned, batched, timed. Names load on first use, so importing this touches no library."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundles.bundle import Bundle
    from .bundles.bundled import bundled_path
    from .bundles.manifest import Manifest
    from .engine import Engine
    from .errors import (
        BackendError,
        BudgetError,
        BundleError,
        GraphError,
        ImageError,
        InfeasibleBudgetError,
        ManifestError,
        PackError,
        ProfileError,
        SizeError,
        SlimpathError,
        TaskError,
        WeightsError,
    )
    from .imaging.images import LoadedImage, load_image
    from .imaging.preprocess import Placement
    from .packs.pack import Pack
    from .planning.budget import Budget, parse_budget
    from .planning.planner import Plan, Planner
    from .profiling.profile import Profile
    from .request import Request
    from .result import Result
    from .tasks import TaskSpec, parse_tasks

_HOME = {
    "Budget": "planning.budget",
    "parse_budget": "planning.budget",
    "Bundle": "bundles.bundle",
    "bundled_path": "bundles.bundled",
    "Engine": "engine",
    "BackendError": "errors",
    "BudgetError": "errors",
    "BundleError": "errors",
    "GraphError": "errors",
    "ImageError": "errors",
    "InfeasibleBudgetError": "errors",
    "ManifestError": "errors",
    "PackError": "errors",
    "ProfileError": "errors",
    "SizeError": "errors",
    "SlimpathError": "errors",
    "TaskError": "errors",
    "WeightsError": "errors",
    "LoadedImage": "imaging.images",
    "load_image": "imaging.images",
    "Manifest": "bundles.manifest",
    "Pack": "packs.pack",
    "Plan": "planning.planner",
    "Planner": "planning.planner",
    "Placement": "imaging.preprocess",
    "Profile": "profiling.profile",
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
    "Pack",
    "PackError",
    "Placement",
    "Plan",
    "Planner",
    "Profile",
    "ProfileError",
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
