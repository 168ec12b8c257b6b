#!/usr/bin/env python3
"""A ROS 2 node: pictures in, one topic per task out, each within a time that a parameter says.

    python3 slimpath_node.py --ros-args -r image:=/camera/image_raw -p tasks:=depth,semseg -p budget:=40ms

Subscribes to `image` (sensor_msgs/Image: rgb8, bgr8, rgba8, bgra8, mono8). Publishes `~/<task>` with the header of the
picture that it answers:

    depth       32FC1, metres           normals     32FC3, unit vectors
    semseg      mono8, class ids        edge, saliency  32FC1, probability
    scene       no picture: its label is in status

and `~/status` (std_msgs/String, JSON): plan, latency, pictures answered and dropped, temperature where it is known.
While one picture is answered the newest that comes waits, and takes the place of one that waits already: late pictures
are dropped, never queued. Parameters `tasks` and `budget` may change while it runs.

Unverified on a robot: written against rclpy of ROS 2 Humble and Jazzy, and tested against a stand-in with its contract.
"""

from __future__ import annotations

import json
import threading
from array import array as bytes_of
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from slimpath.runtime import Engine, SlimpathError

# Axes: H height, W width, C channels.
_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
# A camera's pictures are worth nothing when they are old: the newest, and none sent twice.
_NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
STATUS_S = 1.0


class SlimpathNode(Node):
    """One engine, one worker thread; callbacks only hand over."""

    def __init__(self) -> None:
        super().__init__("slimpath")
        self._tasks = str(self.declare_parameter("tasks", "depth,semseg").value)
        self._budget = str(self.declare_parameter("budget", "").value)
        bundle = str(self.declare_parameter("bundle", "").value)
        backend = str(self.declare_parameter("backend", "onnxruntime").value)
        self._engine = Engine.load(bundle or None, backend=backend)
        self._check(self._tasks, self._budget)
        self._engine.warm(self._tasks or None, [self._budget or None])
        self._publishers_of: dict[str, Any] = {}
        self._status = self.create_publisher(String, "~/status", 1)
        self._answered = self._dropped = 0
        self._last: dict[str, Any] = {}
        self._waiting: Image | None = None
        self._news = threading.Condition()
        self._closing = False
        self.add_on_set_parameters_callback(self._change)
        self.create_subscription(Image, "image", self._take, _NEWEST)
        self.create_timer(STATUS_S, self._tell)
        self._worker = threading.Thread(target=self._work, name="slimpath", daemon=True)
        self._worker.start()

    def destroy_node(self) -> None:
        """End the worker and free the engine before the node goes."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._worker.join()
        self._engine.close()
        super().destroy_node()

    def _take(self, message: Image) -> None:
        """A picture has come; the one that waited, if any, is late."""
        with self._news:
            self._dropped += self._waiting is not None
            self._waiting = message
            self._news.notify()

    def _work(self) -> None:
        while (message := self._next()) is not None:
            try:
                self._answer(message)
            except (SlimpathError, ValueError) as error:  # a picture that cannot be used is no reason to end
                self.get_logger().warning(f"picture left out: {error}", throttle_duration_sec=5.0)
                self._dropped += 1

    def _next(self) -> Image | None:
        with self._news:
            self._news.wait_for(lambda: self._closing or self._waiting is not None)
            message, self._waiting = self._waiting, None
            return None if self._closing else message

    def _answer(self, message: Image) -> None:
        result = self._engine(to_rgb(message), self._tasks or None, self._budget or None)
        self._answered += 1
        self._last = {
            "encoder_width": result.plan.encoder_width,
            "top_k": result.plan.top_k,
            "latency_ms": round(result.timings_ms["total"], 2),
            "budget_met": result.plan.budget_met,
        }
        for task, values in result.items():
            if values.ndim == 1:
                self._last[task] = result.label(task)[0]
            else:
                self._publisher(task).publish(to_image(values, message))

    def _publisher(self, task: str) -> Any:
        if task not in self._publishers_of:
            self._publishers_of[task] = self.create_publisher(Image, f"~/{task}", _NEWEST)
        return self._publishers_of[task]

    def _tell(self) -> None:
        health = self._engine.health
        document = {
            "tasks": self._tasks,
            "budget": self._budget,
            "answered": self._answered,
            "dropped": self._dropped,
            "temperature_c": None if health is None else health.temperature_c,
            **self._last,
        }
        self._status.publish(String(data=json.dumps(document)))

    def _change(self, parameters: list[Any]) -> SetParametersResult:
        """Take over new tasks and a new budget, all of them or none."""
        wanted = {parameter.name: parameter.value for parameter in parameters}
        tasks, budget = str(wanted.get("tasks", self._tasks)), str(wanted.get("budget", self._budget))
        fixed = sorted({"bundle", "backend"} & set(wanted))
        if fixed:
            return SetParametersResult(successful=False, reason=f"{', '.join(fixed)}: restart the node to change")
        try:
            self._check(tasks, budget)
        except SlimpathError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._tasks, self._budget = tasks, budget
        return SetParametersResult(successful=True)

    def _check(self, tasks: str, budget: str) -> None:
        """Raises SlimpathError where a request with these would be refused."""
        self._engine.plan(tasks or None, budget or None)


def to_rgb(message: Image) -> np.ndarray:
    """A picture as uint8 RGB [H, W, 3].

    Raises:
        ValueError: an encoding that is not known here, or fewer bytes than its size needs.
    """
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise ValueError(f"encoding {message.encoding!r} is not one of {', '.join(_CHANNELS)}")
    height, row = message.height, message.width * channels
    data = np.frombuffer(message.data, np.uint8)
    if height < 1 or row < 1 or message.step < row or data.size < (height - 1) * message.step + row:
        raise ValueError(f"{data.size} bytes are no picture of {message.width} x {height} with rows of {message.step}")
    padded = np.zeros(height * message.step, np.uint8)
    padded[: data.size] = data[: padded.size]  # the last row may come without its padding
    image_HWC = padded.reshape(height, message.step)[:, :row].reshape(height, message.width, channels)
    if channels == 1:
        return np.repeat(image_HWC, 3, axis=2)
    order = [2, 1, 0] if message.encoding.startswith("bgr") else [0, 1, 2]
    return np.ascontiguousarray(image_HWC[:, :, order])


def to_image(values: np.ndarray, of: Image) -> Image:
    """A task's answer as a message with the header of its picture.

    Args:
        values: class ids uint8 [H, W]; float32 [H, W] or [H, W, 3].
    """
    if values.dtype == np.uint8:
        plane, encoding = np.ascontiguousarray(values), "mono8"
    else:
        plane, encoding = np.ascontiguousarray(values, "<f4"), "32FC3" if values.ndim == 3 else "32FC1"
    message = Image()
    message.header = of.header
    message.height, message.width = plane.shape[:2]
    message.encoding, message.is_bigendian = encoding, 0
    message.step = plane[0].nbytes
    # Anything but an array of this type is checked byte by byte by the message, which takes longer than the answer.
    message.data = bytes_of("B", plane.tobytes())
    return message


def main() -> None:
    """Spin until the node is ended."""
    rclpy.init()
    node = SlimpathNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        if rclpy.ok():  # after SIGTERM rclpy has shut down already
            rclpy.shutdown()


if __name__ == "__main__":
    main()
