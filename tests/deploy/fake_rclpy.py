"""A stand-in for the parts of ROS 2 that the node uses, with the signatures and the strictness of the real ones.

Signatures: ros2/rclpy, branches humble and jazzy. Messages refuse what rosidl's generated classes refuse, and more: a
picture's bytes must be an array('B'), the one type that the real setter takes without looking at every byte.
"""

from __future__ import annotations

import array
import enum
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class HistoryPolicy(enum.Enum):
    KEEP_LAST = 1


class ReliabilityPolicy(enum.Enum):
    RELIABLE = 1
    BEST_EFFORT = 2


class QoSProfile:
    def __init__(
        self, *, history: HistoryPolicy | None = None, depth: int | None = None, reliability: Any = None
    ) -> None:
        assert history is None or depth, "History set to KEEP_LAST without a depth setting"
        self.history, self.depth, self.reliability = history, depth, reliability


class ExternalShutdownException(Exception):
    pass


@dataclass
class Header:
    stamp: Any = 0
    frame_id: str = ""


class Image:
    """sensor_msgs/Image."""

    __slots__ = ("_data", "encoding", "header", "height", "is_bigendian", "step", "width")

    def __init__(self) -> None:
        self.header, self.height, self.width, self.encoding = Header(), 0, 0, ""
        self.is_bigendian, self.step = 0, 0
        self._data = array.array("B")

    @property
    def data(self) -> array.array[int]:
        return self._data

    @data.setter
    def data(self, value: object) -> None:
        assert isinstance(value, array.array) and value.typecode == "B"
        self._data = value


class String:
    """std_msgs/String."""

    __slots__ = ("data",)

    def __init__(self, *, data: str = "") -> None:
        assert isinstance(data, str)
        self.data = data


class SetParametersResult:
    """rcl_interfaces/SetParametersResult."""

    def __init__(self, *, successful: bool = False, reason: str = "") -> None:
        assert isinstance(successful, bool) and isinstance(reason, str)
        self.successful, self.reason = successful, reason


@dataclass(frozen=True)
class Parameter:
    name: str
    value: Any


@dataclass
class Publisher:
    msg_type: type
    topic: str
    qos_profile: Any
    sent: list[Any] = field(default_factory=list)

    def publish(self, message: Any) -> None:
        if type(message) is not self.msg_type:
            raise TypeError(f"Expected {self.msg_type}, got {type(message)}")
        if isinstance(message, Image):
            for name in ("height", "width", "step", "is_bigendian"):
                assert type(getattr(message, name)) is int, name  # rosidl refuses NumPy's integers
            assert len(message.data) == message.height * message.step
        self.sent.append(message)


class Logger:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, message: str, **options: Any) -> bool:
        assert set(options) <= {"throttle_duration_sec", "throttle_time_source_type", "skip_first", "once", "name"}
        self.lines.append(message)
        return True


class Node:
    """rclpy.node.Node; `overrides` is what `--ros-args -p` would give."""

    overrides: dict[str, Any] = {}  # noqa: RUF012  tests replace it

    def __init__(self, node_name: str, *, namespace: str | None = None) -> None:
        self.node_name, self.destroyed = node_name, False
        self._parameters: dict[str, Any] = {}
        self._on_set_parameters_callbacks: list[Callable[[list[Parameter]], SetParametersResult]] = []
        self._logger = Logger()
        self._publishers: list[Publisher] = []
        self._subscriptions: dict[str, Callable[[Any], None]] = {}
        self._timers: list[Callable[[], None]] = []

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        assert value is not None, "when declaring a parameter only providing its name is deprecated"
        self._parameters[name] = self.overrides.get(name, value)
        return Parameter(name, self._parameters[name])

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], SetParametersResult]) -> None:
        self._on_set_parameters_callbacks.insert(0, callback)

    def set_parameters(self, parameters: list[Parameter]) -> list[SetParametersResult]:
        results = []
        for parameter in parameters:  # one by one, as the real one
            found = [callback([parameter]) for callback in self._on_set_parameters_callbacks]
            assert all(isinstance(result, SetParametersResult) for result in found)
            failed = [result for result in found if not result.successful]
            if not failed:
                self._parameters[parameter.name] = parameter.value
            results.append(failed[0] if failed else SetParametersResult(successful=True))
        return results

    def create_publisher(
        self, msg_type: type, topic: str, qos_profile: Any, *, callback_group: Any = None, event_callbacks: Any = None
    ) -> Publisher:
        assert isinstance(qos_profile, (QoSProfile, int))
        self._publishers.append(Publisher(msg_type, topic, qos_profile))
        return self._publishers[-1]

    def create_subscription(
        self, msg_type: type, topic: str, callback: Callable[[Any], None], qos_profile: Any, *,
        callback_group: Any = None, event_callbacks: Any = None, raw: bool = False,
    ) -> object:  # fmt: skip
        inspect.signature(callback).bind(object())  # rclpy decides by it whether to pass the message's info too
        self._subscriptions[topic] = callback
        return callback

    def create_timer(
        self, timer_period_sec: float, callback: Callable[[], None], callback_group: Any = None, clock: Any = None
    ) -> object:
        assert timer_period_sec > 0
        self._timers.append(callback)
        return callback

    def get_logger(self) -> Logger:
        return self._logger

    def destroy_node(self) -> None:
        assert not self.destroyed
        self.destroyed = True

    def sent(self, topic: str) -> list[Any]:
        """What was published to a topic; not part of rclpy."""
        return [message for publisher in self._publishers if publisher.topic == topic for message in publisher.sent]


def modules(spin: Callable[[Node], None]) -> dict[str, types.ModuleType]:
    """What goes into sys.modules; `spin` is what rclpy.spin does."""

    def module(name: str, **names: object) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(names)
        return made

    state = {"ok": False}
    return {
        "rclpy": module(
            "rclpy",
            init=lambda *, args=None: state.update(ok=True),
            ok=lambda *, context=None: state["ok"],
            spin=spin,
            shutdown=lambda *, context=None: state.update(ok=False),
        ),
        "rclpy.node": module("rclpy.node", Node=Node),
        "rclpy.qos": module(
            "rclpy.qos", QoSProfile=QoSProfile, HistoryPolicy=HistoryPolicy, ReliabilityPolicy=ReliabilityPolicy
        ),
        "rclpy.executors": module("rclpy.executors", ExternalShutdownException=ExternalShutdownException),
        "rcl_interfaces": module("rcl_interfaces"),
        "rcl_interfaces.msg": module("rcl_interfaces.msg", SetParametersResult=SetParametersResult),
        "sensor_msgs": module("sensor_msgs"),
        "sensor_msgs.msg": module("sensor_msgs.msg", Image=Image),
        "std_msgs": module("std_msgs"),
        "std_msgs.msg": module("std_msgs.msg", String=String),
    }
