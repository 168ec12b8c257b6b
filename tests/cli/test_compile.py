"""`slimpath compile`: what it says, what it refuses, and its exit codes. Builds themselves: tests/runtime/tensorrt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slimpath.cli.app import app
from slimpath.runtime.errors import BackendError
from slimpath.runtime.tensorrt import compiling
from slimpath.runtime.tensorrt.compiling import Built, CompileOptions
from slimpath.runtime.tensorrt.engine_file import FORMAT, Checked, Header
from slimpath.runtime.tensorrt.fingerprint import Fingerprint
from slimpath.tests.runtime.tensorrt.gpu_bundle import build_gpu_bundle


@pytest.fixture(scope="module")
def gpu_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_gpu_bundle(tmp_path_factory.mktemp("gpu") / "moe")


@pytest.fixture
def builds(monkeypatch) -> list:
    """Instead of builds: all go well but those of `depth`. Notes (graphs, options)."""
    asked: list = []

    def compile_engines(bundle, graphs, options, *, progress):
        asked.append((graphs, options))
        results = []
        for graph in graphs:
            progress(graph.file, "Building Engine", 1, 4)
            path = Path("/cache/engines") / f"{graph.file}.engine"
            if graph.task == "depth":
                results.append(Built(graph.file, "failed", path, None, f"{graph.file}: Out of tactics."))
                continue
            fingerprint = Fingerprint("10.3.0", "8.7", "Orin", "540", "36.4.3", bundle.digest, graph.sha256)
            checked = Checked("onnxruntime 1.31", 2e-6, 1.0, 1e-4, {"FP32": 3})
            header = Header(FORMAT, graph.file, fingerprint, 2_000_000, "", 0, options.stripped, 61.2, checked)
            results.append(Built(graph.file, "built", path, header))
        return results

    monkeypatch.setattr(compiling, "compile_engines", compile_engines)
    return asked


def slimpath(*arguments: str):
    return CliRunner().invoke(app, ["compile", *arguments])


def test_engines_are_listed_with_size_time_and_error(gpu_bundle, builds):
    shown = slimpath(str(gpu_bundle), "--tasks", "scene", "--precision", "fp32", "--widths", "1", "--memory", "512")
    assert shown.exit_code == 0, shown.output
    ((graphs, options),) = builds
    assert {(graph.precision, graph.task, graph.width) for graph in graphs} == {
        ("fp32", None, 1.0),
        ("fp32", "scene", 1.0),
    }
    assert options == CompileOptions(memory_mb=512, threads=options.threads)
    assert "2.0 MB" in shown.stdout and "61 s" in shown.stdout and "2.0e-06" in shown.stdout
    assert f"{len(graphs)} engines in /cache/engines" in shown.stdout


def test_options_reach_the_builds(gpu_bundle, builds):
    slimpath(str(gpu_bundle), "--stripped", "--level", "5", "--timeout", "60", "--force", "--tasks", "scene")
    ((_, options),) = builds
    assert (options.stripped, options.optimization_level, options.timeout_s, options.force) == (True, 5, 60.0, True)


def test_failed_build_is_a_line_and_exit_code_2(gpu_bundle, builds):
    shown = slimpath(str(gpu_bundle), "--tasks", "depth,scene", "--widths", "1", "--precision", "fp16", "--json")
    assert shown.exit_code == 2
    document = json.loads(shown.stdout)
    states = {row["file"]: row["state"] for row in document["engines"]}
    assert set(states.values()) == {"built", "failed"} and document["bundle"] == str(gpu_bundle)
    (built, *_) = [row for row in document["engines"] if row["state"] == "built"]
    assert built["layer_types"] == {"FP32": 3} and built["bytes"] == 2_000_000 and built["tolerance"] == 1e-4
    failed = [row for row in document["engines"] if row["state"] == "failed"]
    assert all("Out of tactics." in row["reason"] for row in failed)
    assert shown.stderr.count("slimpath: gpu-head-depth") == len(failed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "openvino"), "--backend must be tensorrt, got 'openvino'"),
        (("--tasks", "depht"), "unknown task 'depht'; this bundle has semseg, depth"),
        (("--precision", "int8"), "no GPU graph of the bundle is asked for; it has the precisions fp32, fp16"),
        (("--widths", "wide"), "--widths must be numbers above 0, at most 1, got 'wide'"),
        (("--widths", "0.3"), "no GPU graph of the bundle is asked for"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(gpu_bundle, builds, arguments, words):
    shown = slimpath(str(gpu_bundle), *arguments)
    assert shown.exit_code == 2 and not builds
    assert words in shown.stderr and shown.stderr.count("\n") == 1


def test_bundle_without_graphs_for_gpus_is_refused_with_the_command(builds):
    from slimpath.runtime import bundled_path

    shown = slimpath(str(bundled_path()))
    assert shown.exit_code == 2 and "has no graphs for GPUs" in shown.stderr and "--target gpu" in shown.stderr


def test_missing_library_is_one_line(gpu_bundle, monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise BackendError("TensorRT cannot be imported: no module", hint="sudo apt install python3-libnvinfer")

    monkeypatch.setattr(compiling, "compile_engines", missing)
    shown = slimpath(str(gpu_bundle))
    assert shown.exit_code == 2
    assert shown.stderr == "slimpath: TensorRT cannot be imported: no module; sudo apt install python3-libnvinfer\n"
