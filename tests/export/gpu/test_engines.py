"""Graphs that were really exported, taken through the build and the run of TensorRT engines, on the fake TensorRT.

What it cannot show is whether TensorRT takes them: that is what the linter's table is for.
"""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import make_backend
from slimpath.runtime.tensorrt.engine_file import engine_path, read_header
from slimpath.runtime.tensorrt.worker import Job, build
from slimpath.tests.runtime.tensorrt.fake_machine import Machine
from slimpath.tests.runtime.tensorrt.installing import install_fakes


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMPATH_CACHE", str(tmp_path / "cache"))


def build_all(bundle: Bundle, precision: str, *, stripped: bool) -> None:
    assert bundle.manifest.gpu is not None
    for graph in bundle.manifest.gpu.graphs:
        if graph.precision == precision:
            build(Job(str(bundle.path), graph.file, stripped, 64 << 20, 3, 1), lambda *_: None)
            header = read_header(engine_path(bundle.digest, graph.file))
            assert header.checked.max_abs_error == 0  # the fake computes with the reference


@pytest.mark.parametrize(("version", "integrated", "stripped"), [("10.3.0", True, False), ("11.4.0.106", False, True)])
def test_exported_graphs_answer_like_those_for_cpus(monkeypatch, gpu_bundle, version, integrated, stripped):
    install_fakes(monkeypatch, version, Machine(integrated=integrated))
    build_all(gpu_bundle, "fp32", stripped=stripped)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    with (
        Engine.load(gpu_bundle, backend=make_backend("tensorrt"), tier="packed", profile=None) as engine,
        Engine.load(gpu_bundle, threads=1, tier="packed", profile=None) as reference,
    ):
        for tasks in (None, "depth"):
            for budget in (None, "min"):
                answer = engine(picture, tasks, budget)
                wanted = reference(picture, tasks, answer.plan)
                for task, value in wanted.items():
                    np.testing.assert_allclose(answer[task], value, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_graphs_below_fp32_pass_their_check_and_run(monkeypatch, gpu_bundle, precision):
    install_fakes(monkeypatch)
    build_all(gpu_bundle, precision, stripped=False)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    with Engine.load(gpu_bundle, backend=make_backend(f"tensorrt-{precision}"), profile=None) as engine:
        answer = engine(picture, "depth")
        assert np.isfinite(answer["depth"]).all() and answer.plan.encoder_width == 1.0
