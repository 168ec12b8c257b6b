"""What measures and compares backends keeps to the encoders that there are engines of."""

from __future__ import annotations

import pytest

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends.auto_measure import measure
from slimpath.runtime.backends.base import offered_encoders
from slimpath.runtime.planning.planner import Planner
from slimpath.runtime.profiling.calibrate_bench import Workbench
from slimpath.runtime.profiling.calibrate_calls import draw_calls
from slimpath.runtime.profiling.calibrate_points import list_points
from slimpath.runtime.profiling.parity import check_backend
from slimpath.tests.runtime.tensorrt.gpu_bundle import CONFIGURATIONS


@pytest.fixture
def bundle(gpu_bundle) -> Bundle:
    return Bundle.open(gpu_bundle)


def test_parity_gate_is_passed_in_fp32_and_below(install, engines, bundle):
    install()
    for precision in ("fp32", "fp16"):
        result = check_backend(bundle, make_backend("tensorrt", precision=precision), scope="ends")
        assert result.passed and (len(result.graphs) > 5) is (precision == "fp32"), result.failures()


def test_parity_gate_finds_wrong_answers(install, engines, bundle):
    fake = install()
    fake.noise = 0.01
    result = check_backend(bundle, make_backend("tensorrt"), scope="widest")
    assert not result.passed


def test_speed_is_measured_beside_other_backends(install, engines, bundle):
    install()
    backends = [make_backend("onnxruntime", threads=1), make_backend("tensorrt")]
    found = {one.backend: one for one in measure(bundle, backends, seconds=0.0)}
    assert found["tensorrt"].latency_ms is not None and found["tensorrt"].why == ""


def test_backend_without_engines_is_out_of_question_with_the_reason(install, bundle):
    install()
    (found,) = measure(bundle, [make_backend("tensorrt")], seconds=0.0)
    assert found.latency_ms is None and "no engine was built" in found.why


def test_calibration_measures_only_encoders_that_there_are(install, engines, bundle):
    install()
    planner = Planner(bundle.manifest, encoders=offered_encoders(make_backend("tensorrt"), bundle))
    points = list_points(bundle.manifest, None, planner.top_ks)
    encoders = {(point.graph.width, point.top_k) for point in points if point.graph.kind == "encoder"}
    assert encoders == set(CONFIGURATIONS)
    first_size = [point for point in points if point.graph.size_hw == bundle.manifest.sizes[0]]
    with Engine.load(bundle, backend=make_backend("tensorrt"), profile=None) as engine:
        bench = Workbench(bundle, engine.session)
        for point in first_size:
            bench.graph_run(point)()
        files = {point.graph.file for point in first_size}
        drawn = draw_calls(engine, files, 20, seed=1)
        assert {(call.plan.encoder_width, call.plan.top_k) for call in drawn} <= set(CONFIGURATIONS)


def test_warming_loads_what_there_is(install, engines, bundle):
    install()
    with Engine.load(bundle, backend=make_backend("tensorrt"), profile=None) as engine:
        plans = engine.warm("depth", ["width=1,top_k=2", "min"])
        assert [(plan.encoder_width, plan.top_k) for plan in plans] == [(1.0, 2), (0.5, 1)]
