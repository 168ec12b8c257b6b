"""The OpenVINO backend on the tiny bundle; what it does to real routers is tested in tests/export."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the openvino extra is not installed")

from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends import openvino as openvino_module
from slimpath.runtime.backends.openvino import OpenvinoBackend
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError, GraphError


@pytest.fixture(scope="module")
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def backend() -> OpenvinoBackend:
    return OpenvinoBackend(threads=1)


@pytest.fixture(scope="module")
def session(bundle, backend):
    return backend.load(bundle.graph_bytes(bundle.graph("encoder", (32, 48), 1.0)), bundle.path)


def _feeds(rows: int = 2, images: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.standard_normal((images, 3, 32, 48)).astype(np.float32),
        "image_index": np.arange(rows, dtype=np.int64) % images,
        "top_k": 1 + np.arange(rows, dtype=np.int64) % 2,
        "router": rng.standard_normal((rows, 1, 8, 4)).astype(np.float32),
        "router_bias": rng.standard_normal((rows, 1, 4)).astype(np.float32),
    }


def test_answers_are_those_of_onnxruntime_for_any_batch(bundle, session):
    graph = bundle.graph("encoder", (32, 48), 1.0)
    reference = OrtBackend(threads=1).load(bundle.graph_bytes(graph), bundle.path)
    assert (session.inputs, session.outputs) == (reference.inputs, reference.outputs)
    for rows, images in ((1, 1), (5, 2), (2, 2)):
        feeds = _feeds(rows, images, seed=rows)
        expected, answers = reference.run(feeds), session.run(feeds)
        for name in expected:
            assert answers[name].dtype == expected[name].dtype
            np.testing.assert_allclose(answers[name], expected[name], atol=1e-5)


def test_whole_requests_agree_with_onnxruntime(tiny_bundle, photo):
    with Engine.load(tiny_bundle, backend="openvino", threads=1, tier="packed") as engine:
        answers = engine(photo(), budget="width=0.5")
    with Engine.load(tiny_bundle, threads=1) as engine:
        expected = engine(photo(), budget="width=0.5")
    for task in ("depth", "normals", "edge", "scene"):
        np.testing.assert_allclose(answers[task], expected[task], atol=1e-4)


def test_several_threads_share_a_session(session):
    feeds = [_feeds(seed=seed) for seed in range(6)]
    alone = [session.run(each)["tokens"] for each in feeds]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda each: session.run(each)["tokens"], feeds * 3))
    for answer, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_answers_stay_when_the_session_runs_again(session):
    first = session.run(_feeds(seed=1))
    kept = {name: value.copy() for name, value in first.items()}
    session.run(_feeds(seed=2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])


def test_read_only_inputs_are_read(session):
    feeds = _feeds()
    expected = session.run(feeds)["tokens"]
    for value in feeds.values():
        value.flags.writeable = False
    np.testing.assert_array_equal(session.run(feeds)["tokens"], expected)


def test_shrinking_lets_go_of_the_requests_and_goes_on(bundle, backend):
    graph = bundle.graph("encoder", (32, 48), 0.5)
    session = backend.load(bundle.graph_bytes(graph), bundle.path)
    expected = session.run(_feeds())["tokens"]
    assert len(session._idle) == 1
    session.run(_feeds(rows=4), shrink=True)
    assert session._idle == []
    np.testing.assert_allclose(session.run(_feeds())["tokens"], expected, atol=1e-6)


def test_missing_input_is_refused_rather_than_taken_from_the_last_run(session):
    session.run(_feeds())
    feeds = _feeds()
    del feeds["top_k"]
    with pytest.raises(BackendError, match="the graph has the inputs image, image_index, top_k"):
        session.run(feeds)


def test_failing_run_is_a_backend_error_and_the_next_one_works(session):
    with pytest.raises(BackendError, match="OpenVINO failed"):
        session.run(_feeds() | {"image": np.zeros((1, 3, 8, 8), np.float32)})
    assert session.run(_feeds())["tokens"].shape == (2, 7, 8)


def test_closed_session_refuses_to_run(bundle, backend):
    head = bundle.graph("head", (32, 48), 1.0, "depth")
    session = backend.load(bundle.graph_bytes(head), bundle.path)
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run({})


def test_checked_bytes_count_and_not_the_file(bundle, backend, copied_bundle):
    graph = bundle.graph("head", (32, 48), 1.0, "depth")
    (copied_bundle / graph.file).write_bytes(b"changed since")
    assert backend.load(bundle.graph_bytes(graph), copied_bundle).outputs == ("depth",)


@pytest.mark.parametrize(
    ("damage", "said"), [("symlink", "must be a regular file"), ("short", "has only"), ("absent", "cannot be mapped")]
)
def test_weights_that_are_not_a_whole_file_beside_the_graph_are_refused(bundle, backend, tmp_path, damage, said):
    weights = tmp_path / "weights.safetensors"
    if damage == "symlink":
        weights.symlink_to(bundle.path / "weights.safetensors")
    elif damage == "short":
        weights.write_bytes((bundle.path / "weights.safetensors").read_bytes()[:-64])
    with pytest.raises((BackendError, GraphError), match=said):
        backend.load(bundle.graph_bytes(bundle.graph("encoder", (32, 48), 1.0)), tmp_path)


def test_graph_that_points_outside_its_folder_is_refused(bundle, backend, tmp_path):
    shutil.copy(bundle.path / "weights.safetensors", tmp_path / "ights.safetensor")
    data = bundle.graph_bytes(bundle.graph("encoder", (32, 48), 1.0))
    inside = tmp_path / "inside"
    inside.mkdir()
    moved = data.replace(b"weights.safetensors", b"../ights.safetensor")  # as long, so lengths still hold
    with pytest.raises((BackendError, GraphError), match="regular file beside the graph"):
        backend.load(moved, inside)


def test_graph_that_cannot_be_loaded_is_an_error_of_ours(backend, tmp_path):
    with pytest.raises((BackendError, GraphError), match=r"not a whole ONNX file|cannot load the graph"):
        backend.load(b"nonsense", tmp_path)


def test_settings_are_those_of_one_run_at_a_time_in_fp32(backend, session):
    said = session._compiled.get_property
    assert (said("INFERENCE_NUM_THREADS"), said("NUM_STREAMS"), said("ENABLE_CPU_PINNING")) == (1, 1, False)
    assert said("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert (backend.name, backend.precision, session.precision) == ("openvino", "fp32", "fp32")


def test_threads_default_to_the_usable_cpus(monkeypatch):
    monkeypatch.setattr(openvino_module, "usable_cpus", lambda: 7)
    assert OpenvinoBackend().threads == 7
    with pytest.raises(BackendError, match="threads must be at least 1, got 0"):
        OpenvinoBackend(threads=0)


def test_unknown_precision_lists_the_known_ones():
    with pytest.raises(BackendError, match="no precision 'int4'; it has fp32, bf16, auto"):
        OpenvinoBackend(precision="int4")


def test_precision_that_the_cpu_does_not_have_is_refused(monkeypatch):
    monkeypatch.setattr(OpenvinoBackend, "precisions", property(lambda _: ("fp32",)))
    with pytest.raises(BackendError, match="does not compute in bf16; use fp32"):
        OpenvinoBackend(precision="bf16")
    assert OpenvinoBackend(precision="auto").precision == "fp32"


def test_auto_precision_is_bf16_where_the_cpu_has_it(monkeypatch):
    monkeypatch.setattr(OpenvinoBackend, "precisions", property(lambda _: ("fp32", "bf16")))
    backend = make_backend("openvino", precision="auto")
    assert (backend.name, backend.precision) == ("openvino-bf16", "bf16")


def test_missing_openvino_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r'cannot be imported.*pip install "slimpath\[openvino\]"'):
        OpenvinoBackend(threads=1).load(b"", tmp_path)


def test_version_is_that_of_the_package():
    import openvino

    assert openvino.__version__.startswith(OpenvinoBackend(threads=1).version)
