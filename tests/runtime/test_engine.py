from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from safetensors.numpy import load_file

from slimpath.runtime.backends.fake import FakeBackend, FakeSession
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import (
    BackendError,
    BudgetError,
    BundleError,
    GraphError,
    ImageError,
    InfeasibleBudgetError,
    SizeError,
    TaskError,
    WeightsError,
)
from slimpath.runtime.imaging.preprocess import preprocess
from slimpath.runtime.request import Request
from slimpath.runtime.running.answering import MAX_ROWS
from slimpath.tests.runtime.tiny_bundle import PREPROCESSING, TASKS

NAMES = [task.name for task in TASKS]
# One row or several, one image or several, one tier or the other: other orders of the same float32 sums.
TOLERANCE = 1e-5


def run_file(bundle: Path, file: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(bundle / file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {name: np.asarray(value) for name, value in zip(names, session.run(names, feeds))}


def by_hand(bundle: Path, image: np.ndarray, task: str, *, top_k: int = 2, width: str = "1", decoder: str = "1"):
    """Raw head output and tokens of one task, straight from the files."""
    weights = load_file(bundle / "weights.safetensors")
    plane, _ = preprocess(image, (32, 48), PREPROCESSING)
    bias = weights.get(f"router_bias.{task}" if task != "depth" else "", np.zeros(4, np.float32))
    feeds = {"image": plane[None], "image_index": np.zeros(1, np.int64), "top_k": np.full(1, top_k)}
    feeds |= {"router": weights[f"router.{task}"][None, None], "router_bias": bias[None, None]}
    encoded = run_file(bundle, f"encoder-32x48-w{width}.onnx", feeds)
    if task == "scene":
        encoded.pop("detail")
    return run_file(bundle, f"head-{task}-32x48-w{decoder}.onnx", encoded)[task][0], encoded["tokens"][0]


def as_result(task: str, raw: np.ndarray) -> np.ndarray:
    return {"semseg": lambda: raw.argmax(0), "normals": lambda: raw.transpose(1, 2, 0), "scene": lambda: raw}.get(
        task, lambda: raw[0]
    )()


def assert_same(left, right) -> None:
    assert list(left) == list(right)
    for task in left:
        if left[task].dtype == np.uint8:
            assert (left[task] == right[task]).mean() > 0.999  # a tie between two logits may fall either way
        else:
            np.testing.assert_allclose(left[task], right[task], atol=TOLERANCE, rtol=TOLERANCE)


def test_answers_are_those_of_the_graphs_run_by_hand(engine, tiny_bundle, photo):
    image = photo()
    result = engine(image, features=True)
    assert list(result) == NAMES
    for row, task in enumerate(NAMES):
        raw, tokens = by_hand(tiny_bundle, image, task)
        np.testing.assert_allclose(result[task], as_result(task, raw), atol=TOLERANCE, rtol=TOLERANCE)
        np.testing.assert_allclose(result.features[row], tokens, atol=TOLERANCE, rtol=TOLERANCE)


def test_narrow_configuration_runs_the_narrow_graphs(engine, tiny_bundle, photo):
    result = engine(photo(), "depth,scene", "width=0.5,top_k=1")
    for task in ("depth", "scene"):
        raw, _ = by_hand(tiny_bundle, photo(), task, top_k=1, width="0.5", decoder="0.5")
        np.testing.assert_allclose(result[task], as_result(task, raw), atol=TOLERANCE, rtol=TOLERANCE)
        assert np.abs(result[task] - engine(photo(), task)[task]).max() > 1e-3


def test_tasks_asked_together_are_those_asked_alone(engine, photo):
    together = engine(photo())
    for task in NAMES:
        assert_same({task: together[task]}, engine(photo(), task))


def test_batch_of_mixed_requests_equals_single_runs(engine, photo):
    requests = [
        Request(photo(seed=1), "depth,edge"),
        Request(photo(seed=2), "scene", "top_k=1"),
        Request(photo(seed=3), None, "width=0.5", features=True),
        Request(photo(seed=4), "semseg=2,depth", "width=1,decoder_width=0.5,top_k=1", probabilities=True),
        Request(photo(seed=5), "normals", size=(32, 32)),
        Request(photo(20, 90, seed=6), "depth,normals,semseg", output_size="original"),
        Request(photo(seed=1), "edge,depth", 0.97),
    ]
    results = engine.run_batch(requests)
    for request, result in zip(requests, results):
        alone = engine(**{field: getattr(request, field) for field in Request.__dataclass_fields__})
        assert result.plan == alone.plan
        assert_same(result, alone)
        assert (result.features is None) == (not request.features)
        if request.features:
            np.testing.assert_allclose(result.features, alone.features, atol=TOLERANCE, rtol=TOLERANCE)
        if request.probabilities:
            np.testing.assert_allclose(
                result.probabilities["semseg"], alone.probabilities["semseg"], atol=TOLERANCE, rtol=TOLERANCE
            )


def test_every_input_of_the_encoder_changes_the_answer(engine, photo):
    base = engine(photo(), "edge")["edge"]
    for other in (engine(photo(seed=9), "edge"), engine(photo(), "edge", "top_k=1")):
        assert np.abs(other["edge"] - base).max() > 1e-3
    tokens = engine(photo(), "edge,depth", features=True).features
    assert np.abs(tokens[0] - tokens[1]).max() > 1e-3  # the tasks' routers


def test_mapped_tier_gives_the_same_answers(engine, tiny_bundle, photo):
    with Engine.load(tiny_bundle, threads=1, tier="mapped") as mapped:
        assert_same(mapped(photo()), engine(photo()))


def test_dense_model_shares_one_row_among_tasks(dense_bundle, photo):
    with Engine.load(dense_bundle, threads=1, tier="packed") as engine:
        result = engine(photo(), features=True)
        assert list(result) == NAMES and result.features is not None and result.features.shape == (1, 7, 8)
        assert (result.plan.top_k, result.plan.scored_by) == (0, "flops")
        plane, _ = preprocess(photo(), (32, 48), PREPROCESSING)
        tokens = run_file(
            dense_bundle, "encoder-32x48-w1.onnx", {"image": plane[None], "image_index": np.zeros(1, int)}
        )
        depth = run_file(dense_bundle, "head-depth-32x48-w1.onnx", tokens)["depth"]
        np.testing.assert_allclose(result["depth"], depth[0, 0], atol=TOLERANCE, rtol=TOLERANCE)
        requests = [Request(photo(seed=seed), tasks) for seed, tasks in enumerate((None, "depth", "scene,edge"))]
        for request, answer in zip(requests, engine.run_batch(requests)):
            assert_same(answer, engine(request.image, request.tasks))


# --- what the engine asks of its backend --------------------------------------------------------------------------


def fake_engine(bundle: Path) -> tuple[Engine, dict[str, FakeSession]]:
    """Encoder and heads that answer with zeros of the right shape, by file."""
    opened = Bundle.open(bundle)
    sessions: dict[str, FakeSession] = {}
    file_of = {opened.graph_bytes(graph): graph for graph in opened.manifest.graphs}
    specs = {task.name: task for task in TASKS}

    def make(data: bytes) -> FakeSession:
        graph = file_of[data]
        height, width = graph.size_hw
        cells = height * width // 256 + 1

        def encode(feeds):
            rows, images = len(feeds["image_index"]), len(feeds["image"])
            detail = np.zeros((images, 2, height // 4, width // 4), np.float32)
            return {"tokens": np.zeros((rows, cells, 8), np.float32), "detail": detail}

        def decode(feeds):
            assert graph.task is not None
            spec = specs[graph.task]
            shape = (spec.channels,) if spec.kind == "image_classes" else (spec.channels, height, width)
            return {graph.task: np.zeros((len(feeds["tokens"]), *shape), np.float32)}

        inputs = ("image", "image_index", "top_k", "router", "router_bias")
        if graph.task is None:
            sessions[graph.file] = FakeSession(inputs, ("tokens", "detail"), encode)
        else:
            names = ("tokens",) if graph.task == "scene" else ("tokens", "detail")
            sessions[graph.file] = FakeSession(names, (graph.task,), decode)
        return sessions[graph.file]

    return Engine(opened, FakeBackend(make)), sessions


def test_all_tasks_of_an_image_are_one_encoder_call_on_one_image(tiny_bundle, photo):
    engine, sessions = fake_engine(tiny_bundle)
    engine(photo(), None, "top_k=1")
    (call,) = sessions["encoder-32x48-w1.onnx"].calls
    assert call["image"].shape == (1, 3, 32, 48)
    np.testing.assert_array_equal(call["image_index"], np.zeros(5))
    np.testing.assert_array_equal(call["top_k"], np.ones(5))
    assert (call["router"].shape, call["router_bias"].shape) == ((5, 1, 8, 4), (5, 1, 4))
    assert all(len(session.calls) == 1 for session in sessions.values())


def test_batch_shares_encoder_calls_by_size_and_width_and_heads_by_task_and_width(tiny_bundle, photo):
    engine, sessions = fake_engine(tiny_bundle)
    requests = [
        Request(photo(), "depth,edge", "top_k=1"),
        Request(photo(), "depth"),
        Request(photo(), "depth", "width=1,decoder_width=0.5"),
        Request(photo(), "depth", "width=0.5"),
        Request(photo(), "depth", size=32),
    ]
    engine.run_batch(requests)
    (call,) = sessions["encoder-32x48-w1.onnx"].calls
    assert call["image"].shape[0] == 3
    np.testing.assert_array_equal(call["image_index"], [0, 0, 1, 2])
    np.testing.assert_array_equal(call["top_k"], [1, 1, 2, 2])
    rows = {file: [len(c["tokens"]) for c in s.calls] for file, s in sessions.items() if file.startswith("head")}
    assert rows == {
        "head-depth-32x48-w1.onnx": [2],
        "head-depth-32x48-w0.5.onnx": [1, 1],  # one for each encoder width
        "head-edge-32x48-w1.onnx": [1],
        "head-depth-32x32-w1.onnx": [1],
    }


def test_large_batch_is_split_so_that_memory_stays_bounded(tiny_bundle, photo):
    engine, sessions = fake_engine(tiny_bundle)
    results = engine.run_batch([Request(photo())] * 15)  # 75 rows
    rows = [len(call["image_index"]) for call in sessions["encoder-32x48-w1.onnx"].calls]
    assert len(results) == 15 and rows == [30, 30, 15] and max(rows) <= MAX_ROWS


def test_graph_with_an_unknown_input_or_without_its_output_is_refused(tiny_bundle, photo):
    bundle = Bundle.open(tiny_bundle)
    for inputs, outputs, message in [
        (("image", "mask"), ("tokens",), "wants the input 'mask'; there are image, image_index"),
        (("image",), ("features",), "must have the output 'tokens'; it has features"),
    ]:
        session = FakeSession(inputs, outputs, lambda _, outputs=outputs: {outputs[0]: np.zeros((1, 7, 8))})
        with pytest.raises(GraphError, match=message):
            Engine(bundle, FakeBackend(lambda _, session=session: session))(photo(), "depth")


# --- what a result says -------------------------------------------------------------------------------------------


def test_result_holds_documented_shapes_types_and_facts(engine, photo):
    result = engine(photo(20, 90), probabilities=True)
    shapes = {task: (value.shape, value.dtype.name) for task, value in result.items()}
    plane = (32, 48)
    assert shapes == {
        "semseg": (plane, "uint8"),
        "depth": (plane, "float32"),
        "normals": ((*plane, 3), "float32"),
        "edge": (plane, "float32"),
        "scene": ((3,), "float32"),
    }
    np.testing.assert_allclose(np.linalg.norm(result["normals"], axis=-1), 1, atol=1e-5)
    assert result.image_size_hw == (20, 90) and result.placement.size_hw == plane
    assert set(result.probabilities) == {"semseg"}
    np.testing.assert_array_equal(result.probabilities["semseg"].argmax(0), result["semseg"])
    assert set(result.timings_ms) == {"decode", "preprocess", "encoder", "heads", "postprocess", "total"}
    parts = sum(ms for name, ms in result.timings_ms.items() if name != "total")
    assert 0 < parts <= result.timings_ms["total"]
    assert result.specs["depth"].unit == "m" and result.features is None
    assert "depth float32[32, 48]" in repr(result)
    assert result == result and hash(result) and result != engine(photo(), "depth")


def test_label_names_the_likeliest_class(engine, photo):
    result = engine(photo(), "scene,depth")
    name, probability = result.label("scene")
    assert name == ("kitchen", "bedroom", "office")[int(result["scene"].argmax())]
    assert probability == pytest.approx(result["scene"].max())
    with pytest.raises(TaskError, match="'depth' has no single label"):
        result.label("depth")
    with pytest.raises(TaskError, match="'edge' is not in this result; it has scene, depth"):
        result.label("edge")


def test_original_size_is_that_of_the_picture(engine, photo):
    network, original = engine(photo(61, 200)), engine(photo(61, 200), output_size="original")
    for task, value in original.items():
        assert value.dtype == network[task].dtype
        assert value.shape[:2] == (61, 200) or task == "scene"
    expected = network.placement.restore(network["depth"])
    np.testing.assert_allclose(original["depth"], expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert set(np.unique(original["semseg"])) <= set(np.unique(network.placement.crop(network["semseg"])))


def test_file_bytes_and_array_of_one_picture_give_one_answer(engine, photo, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), photo()[..., ::-1])
    expected = engine(photo(), "depth")["depth"]
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()):
        np.testing.assert_array_equal(engine(source, "depth")["depth"], expected)


def test_photograph_that_was_scaled_while_decoded_is_placed_by_its_own_size(engine, photo):
    data = cv2.imencode(".jpg", photo(800, 1600))[1].tobytes()
    result = engine(data, "depth,semseg", output_size="original")
    assert result.image_size_hw == (800, 1600) and result["depth"].shape == (800, 1600)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tasks": "segmentation"}, TaskError, "unknown task 'segmentation'; this bundle has semseg, depth"),
        ({"budget": "width=0.3"}, BudgetError, "unknown width 0.3; this bundle has 0.5, 1"),
        ({"budget": "lots"}, BudgetError, "cannot read 'lots'"),
        ({"budget": "20ms"}, BudgetError, "needs a profile"),
        ({"budget": "1FLOPs", "strict": True}, InfeasibleBudgetError, "smallest feasible budget"),
        ({"size": 640}, SizeError, "no graphs for size 640"),
        ({"output_size": "huge"}, SizeError, "output_size must be"),
        ({"image": b""}, ImageError, "empty"),
    ],
)
def test_bad_request_is_refused_before_anything_runs(tiny_bundle, photo, arguments, error, message):
    engine, sessions = fake_engine(tiny_bundle)
    with pytest.raises(error, match=message):
        engine(**{"image": photo(), **arguments})
    assert not sessions


def test_infeasible_budget_is_answered_with_the_smallest_plan(engine, photo):
    plan = engine(photo(), "depth", "1FLOPs").plan
    assert not plan.budget_met and (plan.encoder_width, plan.top_k) == (0.5, 1)


def test_output_beyond_the_cap_is_refused_with_the_way_out(tiny_bundle, photo):
    with Engine.load(tiny_bundle, threads=1, tier="packed", max_output_pixels=2399) as engine:
        with pytest.raises(SizeError, match=r"at most 0.0 are made; use output_size=\"network\", or load the engine"):
            engine(photo(40, 60), "depth", output_size="original")
        assert engine(photo(40, 60), "depth")["depth"].shape == (32, 48)


def test_one_bad_request_leaves_its_batch_mates_answered(engine, photo):
    requests = [Request(photo(), "depth"), Request(b"not a picture", "depth"), Request(photo(), "nothing")]
    good, bad_image, bad_task = engine.run_batch(requests, return_errors=True)
    assert_same(good, engine(photo(), "depth"))
    assert isinstance(bad_image, ImageError) and isinstance(bad_task, TaskError)
    with pytest.raises(ImageError):
        engine.run_batch(requests)


def test_failed_batch_answers_each_member(tiny_bundle, photo):
    def fail(_):
        raise BackendError("out of memory")

    engine = Engine(Bundle.open(tiny_bundle), FakeBackend(lambda _: FakeSession(("image",), ("tokens",), fail)))
    answers = engine.run_batch([Request(photo(), "depth"), Request(photo(), "edge")], return_errors=True)
    assert [str(answer) for answer in answers] == ["out of memory"] * 2


def test_router_of_another_shape_is_refused(tiny_bundle, tmp_path, photo):
    bundle = Bundle.open(shutil.copytree(tiny_bundle, tmp_path / "b"))
    encoder = msgspec.structs.replace(bundle.manifest.encoder, experts=3)
    bundle.manifest = msgspec.structs.replace(bundle.manifest, encoder=encoder)
    with pytest.raises(WeightsError, match=r"router 'router.depth' must have the shape \[8, 3\], got \[8, 4\]"):
        Engine.load(bundle, threads=1)(photo(), "depth")


# --- loading, threads, closing ------------------------------------------------------------------------------------


def test_engine_loads_from_a_path_a_text_and_an_open_bundle(tiny_bundle):
    for source in (tiny_bundle, str(tiny_bundle), Bundle.open(tiny_bundle)):
        with Engine.load(source, threads=1) as engine:
            assert list(engine.tasks) == NAMES and engine.tasks["depth"].kind == "depth"
            assert engine.bundle.manifest.name == "tiny"


def test_engine_without_a_bundle_loads_the_bundled_one(tiny_bundle, monkeypatch):
    monkeypatch.setattr("slimpath.runtime.engine.bundled_path", lambda: tiny_bundle)
    assert Engine.load(threads=1).bundle.path == tiny_bundle.resolve()


def test_nothing_is_loaded_before_it_is_needed(tiny_bundle, photo):
    engine, sessions = fake_engine(tiny_bundle)
    engine.plan("depth", 0.9)
    assert not sessions
    engine(photo(), "depth")
    assert sorted(sessions) == ["encoder-32x48-w1.onnx", "head-depth-32x48-w1.onnx"]


def test_damaged_bundle_is_refused_at_load(copied_bundle):
    (copied_bundle / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match="missing"):
        Engine.load(copied_bundle)


def test_many_threads_get_the_answers_of_one(tiny_bundle, photo):
    with Engine.load(tiny_bundle, threads=1, tier="packed") as engine, ThreadPoolExecutor(6) as threads:
        requests = [(photo(seed=i % 3), NAMES[i % 5], ("top_k=1", None)[i % 2]) for i in range(30)]
        answers = list(threads.map(lambda request: engine(*request), requests))
        for request, answer in zip(requests, answers):
            assert_same(answer, engine(*request))


def test_async_calls_answer_like_plain_ones(engine, photo):
    async def ask():
        return await asyncio.gather(*(engine.arun(photo(seed=i), "depth,edge", "top_k=1") for i in range(4)))

    for seed, result in enumerate(asyncio.run(ask())):
        assert_same(result, engine(photo(seed=seed), "depth,edge", "top_k=1"))


def test_async_error_reaches_its_caller(engine, photo):
    with pytest.raises(TaskError):
        asyncio.run(engine.arun(photo(), "nothing"))


def test_closed_engine_says_so(tiny_bundle, photo):
    engine = Engine.load(tiny_bundle, threads=1, tier="packed")
    engine(photo(), "depth")
    asyncio.run(engine.arun(photo(), "depth"))
    engine.close()
    engine.close()
    with pytest.raises(BackendError, match="the engine is closed"):
        engine(photo(), "depth")
    with pytest.raises(BackendError, match="the engine is closed"):
        asyncio.run(engine.arun(photo(), "depth"))


def test_empty_batch_is_an_empty_answer(engine):
    assert engine.run_batch([]) == []


def test_curve_of_the_engine_is_the_planner_s(engine):
    assert engine.curve("depth", points=3) == engine.planner.curve("depth", points=3)
