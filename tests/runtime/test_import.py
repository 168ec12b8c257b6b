"""Importing the runtime is what every command pays for, whatever it does."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest

import slimpath.runtime
from slimpath.runtime import errors

PUBLIC = [
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
HEAVY = ("torch", "onnxruntime", "cv2", "fastapi", "onnx", "safetensors", "openvino")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_public_names_are_these_and_all_resolve():
    assert slimpath.runtime.__all__ == PUBLIC
    assert sorted(slimpath.runtime._HOME) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(slimpath.runtime, name).__name__ == name
        assert name in dir(slimpath.runtime)
    with pytest.raises(AttributeError, match="has no attribute 'Motor'"):
        _ = slimpath.runtime.Motor


@pytest.mark.parametrize(
    "code", ["import slimpath.runtime", "from slimpath.runtime import *", "import slimpath.runtime.engine"]
)
def test_import_loads_no_inference_library(code):
    loaded = python(f"{code}\nimport sys\nprint([m for m in {HEAVY} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_opening_a_bundle_loads_no_inference_library(tiny_bundle):
    code = f"from slimpath.runtime import Engine\nEngine.load({str(tiny_bundle)!r}).plan('depth', 0.99)\n"
    assert python(code + f"import sys\nprint([m for m in {HEAVY} if m in sys.modules])").strip() == "[]"


def test_import_takes_less_than_0_4_s():
    code = "from time import perf_counter as now; a = now(); {}; print(now() - a)"
    assert statistics.median(float(python(code.format("import slimpath.runtime"))) for _ in range(5)) <= 0.4
    # With NumPy; the fastest of five, as other tests may run beside this one.
    assert min(float(python(code.format("from slimpath.runtime import Engine"))) for _ in range(5)) <= 0.4


def test_every_error_is_a_slimpath_error_and_shows_its_hint():
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(kinds) == 13 and all(issubclass(kind, errors.SlimpathError) for kind in kinds)
    for kind in kinds:
        assert str(kind("what", hint="how")) == "what; how" and str(kind("what")) == "what"
        assert kind("what", hint="how").hint == "how"
    for part in (errors.ManifestError, errors.GraphError, errors.WeightsError, errors.PackError):
        assert issubclass(part, errors.BundleError)
    assert issubclass(errors.InfeasibleBudgetError, errors.BudgetError)
