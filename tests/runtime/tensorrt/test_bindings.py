"""Every name and signature that runtime/tensorrt uses is one of NVIDIA's bindings, as bindings.json has them.

How that file was made: tests/tools/extract_bindings.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slimpath.runtime.tensorrt.cuda import _HINTS
from slimpath.tests.runtime.tensorrt import used_names
from slimpath.tests.runtime.tensorrt.fake_bindings import (
    CUDA_VERSIONS,
    TABLE,
    TENSORRT_VERSIONS,
    api_of,
    make_module,
    split_arguments,
)

VERSIONS = [("tensorrt", version) for version in TENSORRT_VERSIONS] + [("cuda", version) for version in CUDA_VERSIONS]


def uses_of(module: str, version: str) -> list[used_names.Use]:
    """What the code uses of a library, its types followed as that version has them."""
    other = "cuda" if module == "tensorrt" else "tensorrt"
    newest = CUDA_VERSIONS[-1] if other == "cuda" else TENSORRT_VERSIONS[-1]
    found = used_names.used({module: api_of(module, version), other: api_of(other, newest)})
    return [use for use in found if use.module == module]


def problems(module: str, version: str) -> list[str]:
    """Uses that the version does not have, and calls and overrides that do not fit it."""
    api = api_of(module, version)
    found: list[str] = []
    for use in uses_of(module, version):
        entry = api.get(use.owner, {}).get(use.name)
        name = f"{use.where} {use.owner}.{use.name}"
        if entry is None:
            found.append(f"{name}: not in {module} {version}")
            continue
        if entry["kind"] == "class" and use.call is not None:
            entry = api.get(use.name, {}).get("__init__", {"signatures": ["(self)"]})
        signatures = [split_arguments(signature) for signature in entry.get("signatures", [])]
        if use.overrides is not None and use.overrides not in [tuple(n for n, _, _ in s[1:]) for s in signatures]:
            found.append(f"{name}: overridden with {use.overrides}")
        if use.call is not None and not any(_takes(signature, use) for signature in signatures):
            found.append(f"{name}: called as none of {entry.get('signatures')}")
    return found


def _takes(signature: list[tuple[str, str, bool]], use: used_names.Use) -> bool:
    assert use.call is not None
    unbound = use.name == "__init__"  # `trt.ILogger.__init__(self)`
    declared = [one for one in signature if one[0] != "self" or unbound]
    given, named = len(use.call.args), {keyword.arg for keyword in use.call.keywords}
    rest = declared[given:]
    return (
        given <= len(declared)
        and named <= {name for name, _, _ in rest}
        and all(optional or name in named for name, _, optional in rest)
    )


@pytest.mark.parametrize(("module", "version"), VERSIONS)
def test_every_use_is_one_that_the_bindings_have(module, version):
    assert problems(module, version) == []


def test_bindings_of_both_majors_were_read_from_wheels():
    majors = {version.split(".")[0] for version in TENSORRT_VERSIONS}
    assert majors == {"10", "11"}
    for version in TENSORRT_VERSIONS:
        assert any(version in wheel for wheel in TABLE["wheels"])
    assert TABLE["date"].startswith("20") and all(len(digest) == 64 for digest in TABLE["wheels"].values())


def test_reader_follows_types_to_where_they_are_used():
    names = {(use.owner, use.name) for use in uses_of("tensorrt", "11.4.0.106")}
    assert names >= {
        ("IExecutionContext", "execute_async_v3"),
        ("IBuilderConfig", "get_timing_cache"),
        ("ITimingCache", "serialize"),
        ("ParserError", "node_operator"),
        ("ITensor", "shape"),
        ("DataType", "HALF"),
        ("IProgressMonitor", "step_complete"),
        ("Refitter", "get_missing_weights"),
        ("EngineInspector", "get_engine_information"),
        ("ExecutionContextAllocationStrategy", "USER_MANAGED"),
    }
    assert ("cudaMemcpyKind", "cudaMemcpyDeviceToHost") in {(use.owner, use.name) for use in uses_of("cuda", "13.5.0")}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("engine.py", "execute_async_v3(", "execute_async_v2("),
        ("engine.py", "engine.device_memory_size_v2", "engine.device_memory_size"),
        ("engine.py", "execute_async_v3(int(stream))", "execute_async_v3(int(stream), 0)"),
        ("building.py", "trt.BuilderFlag.TF32", "trt.BuilderFlag.FP16"),
        ("building.py", "config.set_timing_cache(cache, False)", "config.set_timing_cache(cache)"),
        ("building.py", "def step_complete(self, phase_name: str, step: int)", "def step_complete(self, phase: str)"),
        ("building.py", "error.node_operator()", "error.node_op()"),
        ("refitting.py", "refitter.refit_cuda_engine()", "refitter.refit()"),
        ("cuda.py", "self._rt.cudaGraphInstantiate(graph, 0)", "self._rt.cudaGraphInstantiate(graph)"),
        ("cuda.py", "cudaStreamCaptureModeThreadLocal", "cudaStreamCaptureModeLocal"),
    ],
)
def test_planted_misuse_is_found(monkeypatch, tmp_path, file, old, new):
    source = Path(shutil.copytree(used_names.SOURCE, tmp_path / "source"))
    text = (source / file).read_text(encoding="utf-8")
    assert old in text
    (source / file).write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(used_names, "SOURCE", source)
    module, version = ("cuda", CUDA_VERSIONS[-1]) if file == "cuda.py" else ("tensorrt", TENSORRT_VERSIONS[-1])
    (found,) = problems(module, version)
    assert found.startswith(f"{file}:")


@pytest.mark.parametrize("version", CUDA_VERSIONS)
def test_errors_that_have_a_hint_and_facts_of_devices_exist(version):
    api = api_of("cuda", version)
    assert set(_HINTS) <= set(api["cudaError_t"])
    assert set(api["cudaDeviceProp"]) == {"name", "major", "minor", "integrated"}


@pytest.mark.parametrize("version", TENSORRT_VERSIONS)
def test_fake_refuses_what_the_bindings_refuse(version):
    calls: list = []
    fake = make_module("tensorrt", version, {"ILogger": lambda: None, "Builder": lambda logger: None}, calls)
    logger = fake.ILogger()
    builder = fake.Builder(logger)
    assert [name for name, _ in calls] == ["ILogger.__init__", "Builder.__init__"]
    for wrong in (
        lambda: fake.Builder(),
        lambda: fake.Builder("a logger"),
        lambda: fake.Builder(log=logger),
        lambda: builder.create_network(flags="0"),
        lambda: fake.fake_classes["ICudaEngine"](),
    ):
        with pytest.raises(TypeError):
            wrong()
    for missing in (lambda: fake.BuilderFlag.FP16, lambda: fake.Calibrator, lambda: builder.max_batch_size):
        with pytest.raises(AttributeError):
            missing()
    with pytest.raises(AttributeError):
        builder.max_workspace_size = 1 << 20


def test_signature_is_taken_apart():
    text = "(self: Builder, shapes: Sequence[tuple[int, int]], path: str = None) -> list[str]"
    assert split_arguments(text) == [
        ("self", "Builder", False),
        ("shapes", "Sequence[tuple[int, int]]", False),
        ("path", "str", True),
    ]
    assert split_arguments("(dst, src)") == [("dst", "", False), ("src", "", False)]
    assert split_arguments("()") == []
