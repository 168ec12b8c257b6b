"""Builds in processes of their own: what comes of them, and that the one that waits survives whatever they do."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from slimpath.runtime import Bundle
from slimpath.runtime.bundles.gpu_spec import GpuGraphSpec
from slimpath.runtime.errors import BackendError, WeightsError
from slimpath.runtime.tensorrt import compiling
from slimpath.runtime.tensorrt.compiling import CompileOptions, choose_graphs, compile_engines
from slimpath.runtime.tensorrt.cuda import DeviceFacts
from slimpath.runtime.tensorrt.engine_file import engine_path, read_header
from slimpath.runtime.tensorrt.worker import Here, Job, build, look_around
from slimpath.tests.runtime.tensorrt.fake_bindings import TENSORRT_VERSIONS
from slimpath.tests.runtime.tensorrt.fake_machine import Machine
from slimpath.tests.runtime.tensorrt.fake_tensorrt import TensorrtFake

QUICK = CompileOptions(memory_mb=64)


@pytest.fixture
def bundle(gpu_bundle) -> Bundle:
    return Bundle.open(gpu_bundle)


@pytest.fixture
def here(monkeypatch) -> None:
    """Spare the tests of builds the process that only looks around."""
    facts = DeviceFacts("Orin", "8.7", False, "12.6")
    monkeypatch.setattr(compiling, "_look_around", lambda: Here(facts, TENSORRT_VERSIONS[-1]))


@pytest.fixture
def in_this_process(install, monkeypatch) -> Callable[..., TensorrtFake]:
    """Builds without processes, for what has nothing to do with them."""

    def work(job: Job, *_: object) -> Here | None:
        if not job.file:
            return look_around()
        return build(job, lambda *_: None)

    monkeypatch.setattr(compiling, "_work", work)
    return install


def heads(bundle: Bundle, task: str) -> list[GpuGraphSpec]:
    graphs = choose_graphs(bundle, precisions=["fp32"], tasks=[task], widths=[1.0])
    return [graph for graph in graphs if graph.kind == "head" and graph.size_hw == (32, 48) and graph.rows == 1]


def test_engines_are_built_once_and_told_of(child, bundle):
    told: list[tuple[str, str, int, int]] = []
    graphs = heads(bundle, "depth")
    (built,) = compile_engines(bundle, graphs, QUICK, progress=lambda *what: told.append(what))
    assert built.state == "built" and built.path == engine_path(bundle.digest, graphs[0].file)
    assert built.header is not None and built.header.weight_bytes == graphs[0].weight_bytes
    assert built.header == read_header(built.path)
    assert (graphs[0].file, "Building Engine", 1, 2) in told and told[0] == (graphs[0].file, "starting", 0, 0)
    (kept,) = compile_engines(bundle, graphs, QUICK)
    assert kept.state == "kept" and kept.header == built.header


@pytest.mark.parametrize("change", ["stripped", "force", "version", "device"])
def test_engine_is_built_again_where_it_is_not_what_is_wanted(in_this_process, bundle, change):
    in_this_process()
    graphs = heads(bundle, "scene")
    compile_engines(bundle, graphs, QUICK)
    options = CompileOptions(**({change: True} if change in ("stripped", "force") else {}), memory_mb=64)
    if change == "version":
        in_this_process("11.0.0.114")
    elif change == "device":
        in_this_process(machine=Machine(name="Thor"))
    (again,) = compile_engines(bundle, graphs, options)
    assert again.state == "built" and again.header is not None
    assert again.header.stripped is (change == "stripped")
    assert compile_engines(bundle, graphs, CompileOptions(options.stripped, 64))[0].state == "kept"


def test_build_that_fails_does_not_stop_the_others(in_this_process, bundle):
    in_this_process().refuses_nodes = {"Exp"}  # of the head of depth alone
    results = compile_engines(bundle, [*heads(bundle, "depth"), *heads(bundle, "edge")], QUICK)
    assert [result.state for result in results] == ["failed", "built"]
    assert "cannot read this graph: Exp" in results[0].reason and not results[0].path.exists()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("is killed", "the build was killed: memory ran out, or it took longer than 3600 s; close other programs"),
        ("crashes", "the build crashed with SIGSEGV: the last words of a library"),
        ("exits", "the build ended with exit code 7 and without an answer"),
    ],
)
def test_process_that_dies_is_told_of_and_leaves_nothing(child, here, bundle, how, reason):
    child(build=how)
    (failed,) = compile_engines(bundle, heads(bundle, "depth"), QUICK)
    assert failed.state == "failed" and reason in failed.reason and failed.header is None
    assert not failed.path.exists()


def test_build_that_hangs_is_given_up(child, here, bundle):
    child(build="hangs")
    (failed,) = compile_engines(bundle, heads(bundle, "depth"), CompileOptions(memory_mb=64, timeout_s=8.0))
    assert failed.state == "failed" and "took longer than 8 s" in failed.reason


def test_answer_that_is_wrong_reaches_the_one_that_waits(child, here, bundle):
    child(build="prints", noise=0.5)  # and what a library prints does not come between
    told: list[str] = []
    (failed,) = compile_engines(bundle, heads(bundle, "depth"), QUICK, progress=lambda *what: told.append(what[1]))
    assert failed.state == "failed" and "does not give the graph's answers" in failed.reason
    assert "Building Engine" in told and "noise" not in told


def test_machine_where_nothing_can_be_built_is_refused_at_once(child, bundle):
    child(machine={"no_device": True})
    with pytest.raises(BackendError, match="cudaErrorNoDevice"):
        compile_engines(bundle, heads(bundle, "depth"), QUICK)


def test_damaged_weights_are_found_before_anything_is_built(here, gpu_bundle, tmp_path):
    copied = shutil.copytree(gpu_bundle, tmp_path / "copy")
    bundle = Bundle.open(copied)
    data = bytearray((copied / "weights-gpu.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "weights-gpu.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="SHA-256"):
        compile_engines(bundle, heads(bundle, "depth"), QUICK)


def test_graphs_are_chosen_by_precision_task_and_width(bundle):
    assert bundle.manifest.gpu is not None
    assert len(choose_graphs(bundle)) == len(bundle.manifest.gpu.graphs)
    found = choose_graphs(bundle, precisions=["fp16"], tasks=["depth"], widths=[0.5])
    assert {(g.precision, g.task, g.width) for g in found} == {("fp16", None, 0.5), ("fp16", "depth", 0.5)}
    assert [g.kind for g in found] == sorted(g.kind for g in found)
    with pytest.raises(BackendError, match=r"no GPU graph .* precisions fp32, fp16, the tasks semseg, .* widths 0.5"):
        choose_graphs(bundle, precisions=["int8"])
