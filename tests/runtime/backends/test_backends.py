from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends import ort as ort_module
from slimpath.runtime.backends.fake import FakeBackend, FakeSession
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.errors import BackendError

ADD = helper.make_model(
    helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        "g",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("a", "b")],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("sum", "difference")],
    ),
    opset_imports=[helper.make_opsetid("", 18)],
    ir_version=9,
).SerializeToString()
FEEDS = {"a": np.array([5, 6], np.float32), "b": np.array([1, 2], np.float32)}


@pytest.mark.parametrize("shrink", [False, True])
def test_onnxruntime_runs_a_graph_by_names(tmp_path, shrink):
    session = OrtBackend(threads=1).load(ADD, tmp_path)
    assert (session.inputs, session.outputs) == (("a", "b"), ("sum", "difference"))
    outputs = session.run(FEEDS, shrink=shrink)
    np.testing.assert_array_equal(outputs["sum"], [6, 8])
    np.testing.assert_array_equal(outputs["difference"], [4, 4])


@pytest.mark.parametrize("tier", ["packed", "mapped"])
def test_external_data_are_read_from_the_given_folder(tiny_bundle, tier, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    bundle = Bundle.open(tiny_bundle)
    graph = bundle.graph("encoder", (32, 48), 1.0)
    session = OrtBackend(threads=1).load(bundle.graph_bytes(graph), bundle.path, tier=tier)
    assert session.inputs == ("image", "image_index", "top_k", "router", "router_bias")
    assert session.outputs == ("tokens", "detail")


def test_graph_that_cannot_be_loaded_is_a_backend_error(tmp_path):
    with pytest.raises(BackendError, match=r"ONNX Runtime .* cannot load the graph"):
        OrtBackend(threads=1).load(b"nonsense", tmp_path)


def test_failing_run_is_a_backend_error(tmp_path):
    session = OrtBackend(threads=1).load(ADD, tmp_path)
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        session.run({"a": np.zeros(1, np.float32)})


def test_closed_session_refuses_to_run(tmp_path):
    session = OrtBackend(threads=1).load(ADD, tmp_path)
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run(FEEDS)


class _Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.intra_op_num_threads = self.inter_op_num_threads = self.log_severity_level = 0
        self.enable_mem_reuse = self.enable_mem_pattern = True
        self.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@pytest.fixture
def seen_options(monkeypatch):
    """The options that a load hands to ONNX Runtime."""
    import onnxruntime

    made: list[_Options] = []
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: made.append(_Options()) or made[-1])

    def refuse(*_, **__):
        raise RuntimeError("seen enough")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    return made


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.23.0", ("0", None)),
        ("1.25.1", ("0", None)),
        ("1.26.0", ("1", "50")),
        ("2.0.0", ("1", "50")),
        ("?", ("0", None)),
    ],
)
def test_sessions_spin_for_a_moment_or_not_at_all(seen_options, tmp_path, monkeypatch, version, expected):
    monkeypatch.setattr(ort, "__version__", version)
    with pytest.raises(BackendError, match="seen enough"):
        OrtBackend(threads=1).load(ADD, tmp_path)
    keys = ("session.intra_op.allow_spinning", "session.intra_op.spin_duration_us")
    assert tuple(seen_options[0].entries.get(key) for key in keys) == expected


def test_sessions_use_the_threads_given(seen_options, tmp_path):
    for tier in ("packed", "mapped"):
        with pytest.raises(BackendError, match="seen enough"):
            OrtBackend(threads=3).load(ADD, tmp_path, tier=tier)
    packed, mapped = seen_options
    assert (packed.intra_op_num_threads, packed.inter_op_num_threads) == (3, 1)
    assert "session.disable_prepacking" not in packed.entries
    assert mapped.entries["session.disable_prepacking"] == "1"


def test_mapped_sessions_keep_no_rearranged_weights_and_no_session_keeps_an_arena(seen_options, tmp_path):
    for tier in ("packed", "mapped"):
        with pytest.raises(BackendError, match="seen enough"):
            OrtBackend(threads=1).load(ADD, tmp_path, tier=tier)
    packed, mapped = seen_options
    assert packed.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert mapped.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    for options in (packed, mapped):
        assert options.entries["session.use_env_allocators"] == "1"
        assert not options.enable_mem_reuse
    assert packed.enable_mem_pattern and not mapped.enable_mem_pattern


def test_arena_is_made_once_for_all_sessions(monkeypatch, tmp_path):
    made: list[object] = []
    monkeypatch.setattr(ort, "create_and_register_allocator", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(ort_module, "_arena_shared", [])
    for _ in range(2):
        OrtBackend(threads=1).load(ADD, tmp_path)
    assert len(made) == 1


def test_threads_default_to_the_usable_cpus(monkeypatch):
    monkeypatch.setattr(ort_module, "usable_cpus", lambda: 7)
    assert OrtBackend().threads == 7
    with pytest.raises(BackendError, match="threads must be at least 1, got 0"):
        OrtBackend(threads=0)


def test_missing_onnxruntime_is_said_clearly(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(ort_module, "_installed", list)
    with pytest.raises(BackendError, match=r"cannot be imported.*pip install --force-reinstall onnxruntime"):
        OrtBackend(threads=1).load(ADD, Path())


def test_double_install_is_said_clearly(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))  # a folder without contents
    monkeypatch.setattr(ort_module, "_installed", lambda: ["onnxruntime", "onnxruntime-gpu"])
    with pytest.raises(BackendError, match=r"onnxruntime and onnxruntime-gpu overwrite each other; uninstall"):
        OrtBackend(threads=1).load(ADD, Path())


def test_installed_distributions_are_found():
    assert "onnxruntime" in ort_module._installed()


def test_unknown_backend_lists_the_known_ones():
    with pytest.raises(BackendError, match="unknown backend 'tensorflow'; this version has onnxruntime"):
        make_backend("tensorflow")
    assert make_backend("onnxruntime", threads=1).name == "onnxruntime"


def test_fake_answers_remembers_and_closes(tmp_path):
    session = FakeBackend(lambda _: FakeSession(("a",), ("b",), lambda f: {"b": f["a"] * 2})).load(b"", tmp_path)
    np.testing.assert_array_equal(session.run({"a": np.array([3])})["b"], [6])
    assert list(session.calls[0]) == ["a"]
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run({})
