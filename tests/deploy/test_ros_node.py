"""The ROS 2 node, against a stand-in for rclpy: one topic per task, late pictures dropped, never queued."""

from __future__ import annotations

import array
import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import slimpath
from slimpath.tests.deploy import fake_rclpy
from slimpath.tests.deploy.fake_rclpy import Header, Image, Node, Parameter
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle

FILE = Path(slimpath.__file__).parent / "deploy" / "jetson" / "ros2" / "slimpath_node.py"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> ModuleType:
    """The node's file, imported where rclpy is the stand-in."""
    for name, module in fake_rclpy.modules(spin=lambda node: None).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Node, "overrides", {"bundle": str(bundle), "tasks": "semseg,depth,normals,scene"})
    spec = importlib.util.spec_from_file_location("slimpath_node", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def node(script: ModuleType) -> Iterator[Any]:
    made = script.SlimpathNode()
    yield made
    if not made.destroyed:
        made.destroy_node()


def picture(height: int = 40, width: int = 60, encoding: str = "rgb8", *, padding: int = 0, stamp: int = 7) -> Image:
    channels = {"mono8": 1, "rgba8": 4, "bgra8": 4}.get(encoding, 3)
    rows = np.random.default_rng(stamp).integers(0, 256, (height, width * channels + padding), np.uint8)
    message = Image()
    message.header = Header(stamp=stamp, frame_id="camera")
    message.height, message.width, message.encoding, message.step = height, width, encoding, rows.shape[1]
    message.data = array.array("B", rows.tobytes())
    return message


def wait_for(condition: Callable[[], object]) -> bool:
    end = monotonic() + 30
    while not condition() and monotonic() < end:
        sleep(0.005)
    return bool(condition())


def give(node: Any, message: Image) -> None:
    """Hand a picture in, and wait until it is answered or left out."""
    before = node._answered + node._dropped
    node._subscriptions["image"](message)
    assert wait_for(lambda: node._answered + node._dropped > before)


def test_each_task_has_its_topic_with_the_pictures_header(node: Any):
    message = picture()
    give(node, message)
    depth, semseg, normals = (node.sent(f"~/{task}")[0] for task in ("depth", "semseg", "normals"))
    assert [answer.encoding for answer in (depth, semseg, normals)] == ["32FC1", "mono8", "32FC3"]
    for answer in (depth, semseg, normals):
        assert answer.header is message.header and (answer.height, answer.width) == (32, 48)
    assert node.sent("~/scene") == []  # no picture: in the status
    assert node._last["scene"] in ("kitchen", "bedroom", "office")


def test_answers_are_those_of_the_engine(node: Any, script: ModuleType):
    message = picture()
    give(node, message)
    expected = node._engine(script.to_rgb(message), "depth")["depth"]
    sent = node.sent("~/depth")[0]
    assert np.array_equal(np.frombuffer(sent.data, "<f4").reshape(sent.height, sent.width), expected)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
@pytest.mark.parametrize("padding", [0, 5])
def test_encodings_become_rgb(script: ModuleType, encoding: str, padding: int):
    message = picture(6, 8, encoding, padding=padding)
    image_HWC = script.to_rgb(message)
    assert image_HWC.shape == (6, 8, 3) and image_HWC.dtype == np.uint8
    raw = np.frombuffer(message.data, np.uint8).reshape(6, message.step)[:, : message.step - padding].reshape(6, 8, -1)
    place = {"rgb": [0, 1, 2], "bgr": [2, 1, 0]}.get(encoding[:3], [0, 0, 0])
    assert np.array_equal(image_HWC, raw[:, :, place])


def test_last_row_may_come_without_its_padding(script: ModuleType):
    message = picture(6, 8, padding=5)
    whole = script.to_rgb(message)
    message.data = message.data[:-5]
    assert np.array_equal(script.to_rgb(message), whole)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding 'bayer_rggb8' is not one of"),
        ({"data": array.array("B", b"123")}, "3 bytes are no picture"),
        ({"step": 10}, "no picture"),
        ({"height": 0}, "no picture"),
    ],
)
def test_picture_that_cannot_be_used_is_left_out_and_the_next_answered(node: Any, changed: dict[str, Any], says: str):
    message = picture()
    for name, value in changed.items():
        setattr(message, name, value)
    give(node, message)
    assert node._dropped == 1 and says in node.get_logger().lines[0]
    give(node, picture())
    assert node._answered == 1


def test_pictures_that_come_too_fast_are_dropped_but_for_the_newest(node: Any, script: ModuleType):
    answering, go_on, answered = threading.Event(), threading.Event(), []
    real = node._engine

    def slow(rgb: Any, *request: Any) -> Any:
        answering.set()
        assert go_on.wait(30)
        answered.append(rgb)
        return real(rgb, *request)

    slow.health = None  # type: ignore[attr-defined]
    node._engine = slow
    messages = [picture(stamp=stamp) for stamp in range(5)]
    node._subscriptions["image"](messages[0])
    assert answering.wait(30)
    for message in messages[1:]:
        node._subscriptions["image"](message)
    go_on.set()
    assert wait_for(lambda: node._answered == 2)
    node._engine = real
    assert node._dropped == 3
    assert [sent.header.stamp for sent in node.sent("~/depth")] == [0, 4]


def test_status_tells_what_is_done(node: Any):
    give(node, picture())
    (tell,) = node._timers
    tell()
    told = json.loads(node.sent("~/status")[0].data)
    assert told["answered"] == 1 and told["dropped"] == 0 and told["tasks"] == "semseg,depth,normals,scene"
    assert told["latency_ms"] > 0 and told["encoder_width"] == 1.0 and "temperature_c" in told


def test_tasks_and_budget_change_while_it_runs(node: Any):
    assert [result.successful for result in node.set_parameters([Parameter("tasks", "edge")])] == [True]
    assert [result.successful for result in node.set_parameters([Parameter("budget", "width=0.5")])] == [True]
    give(node, picture())
    assert len(node.sent("~/edge")) == 1 and node.sent("~/depth") == [] and node._last["encoder_width"] == 0.5


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("tasks", "telepathy", "telepathy"), ("budget", "soon", "soon"), ("bundle", "/other", "restart the node")],
)
def test_parameters_that_cannot_be_used_are_refused_with_the_reason(node: Any, name: str, value: str, says: str):
    (result,) = node.set_parameters([Parameter(name, value)])
    assert not result.successful and says in result.reason
    give(node, picture())
    assert node._answered == 1


def test_unknown_parameters_are_left_to_others(node: Any):
    (result,) = node.set_parameters([Parameter("use_sim_time", True)])
    assert result.successful


def test_start_with_a_task_that_there_is_not_is_refused(script: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Node, "overrides", {**Node.overrides, "tasks": "telepathy"})
    with pytest.raises(slimpath.SlimpathError, match="telepathy"):
        script.SlimpathNode()


def test_subscription_keeps_only_the_newest_picture(script: ModuleType):
    assert script._NEWEST.depth == 1 and script._NEWEST.reliability is fake_rclpy.ReliabilityPolicy.BEST_EFFORT


def test_end_of_the_node_ends_its_thread(script: ModuleType):
    script.main()
    assert "slimpath" not in [thread.name for thread in threading.enumerate()]
    assert not sys.modules["rclpy"].ok()


def test_end_from_outside_is_no_error(script: ModuleType):
    def spin(node: Node) -> None:
        sys.modules["rclpy"].shutdown()
        raise fake_rclpy.ExternalShutdownException

    sys.modules["rclpy"].spin = spin  # type: ignore[attr-defined]
    script.main()
