"""The body of an inference request -> images, wishes, and how the answer is to be written. Runs in the thread pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .compression import inflate
from .header import InferHeader, RequestedOutput, Scalar, bad, header_length, read_header
from .parameters import Wishes, read_wishes
from .tensors import INPUT, Image, input_size, read_images

if TYPE_CHECKING:
    from ...runtime.tasks import TaskSpec
    from ..settings import LimitSettings

MIB = 1 << 20
MAX_IMAGES = 32  # of one request; each is a job of its own, so that many small requests share calls just as well


@dataclass(frozen=True)
class Asked:
    """An output as the client wants it.

    Args:
        binary: behind the header instead of in it.
        classes: of an image_classes task: the k likeliest as texts instead of all probabilities; 0 for those.
    """

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """A request that is understood; `images` are still encoded where they came so."""

    id: str
    images: list[Image]
    outputs: list[Asked]
    wishes: Wishes


def read_request(
    body: bytes, headers: Mapping[str, str], query: Mapping[str, str], tasks: Mapping[str, TaskSpec],
    limits: LimitSettings,
) -> InferRequest:  # fmt: skip
    """Read a body.

    Args:
        headers: by lower-case names.
        query: the parameters of the URL; those of the JSON go first.
        tasks: of the model.

    Raises:
        HttpError: 400, or 413 once inflated. TaskError: a task that the model does not have.
    """
    limit_bytes = int(limits.max_body_mib * MIB)
    body = inflate(body, headers.get("content-encoding"), limit_bytes)
    length = header_length(headers.get("inference-header-content-length"), len(body))
    if length == 0:
        return _read_raw(body, query, tasks)
    header = read_header(body if length is None else memoryview(body)[:length], limits.max_json_depth)
    _check_inputs(header)
    tensor = header.inputs[0]
    size = input_size(tensor)
    rest = memoryview(b"" if length is None else body)[length or 0 :]
    if size is not None and size > len(rest):
        raise bad(f"unexpected size for input {INPUT!r}: binary_data_size is {size}, {len(rest)} bytes follow")
    if len(rest) > (size or 0):
        raise bad(f"unexpected additional input data: {len(rest) - (size or 0)} bytes behind the last tensor")
    max_pixels = limits.max_image_mp * 1e6
    images = read_images(tensor, None if size is None else rest, max_images=MAX_IMAGES, max_pixels=max_pixels)
    parameters = {**query, **header.parameters}
    wishes = read_wishes(parameters, _names(header.outputs, tasks), tuple(tasks))
    return InferRequest(header.id, images, _asked(header.outputs, parameters, wishes, tasks), wishes)


def _read_raw(body: bytes, query: Mapping[str, str], tasks: Mapping[str, TaskSpec]) -> InferRequest:
    """Header length 0: the body is one image file, everything is answered in binary."""
    if not body:
        raise bad("a raw request needs an image as its body")
    parameters: dict[str, Scalar] = {**query, "binary_data_output": True}
    wishes = read_wishes(parameters, None, tuple(tasks))
    return InferRequest("", [body], _asked(None, parameters, wishes, tasks), wishes)


def _check_inputs(header: InferHeader) -> None:
    names = [tensor.name for tensor in header.inputs]
    if names == [INPUT]:
        return
    unknown = [name for name in names if name != INPUT]
    if unknown:
        raise bad(f"unexpected input {unknown[0][:64]!a}", hint=f"the one input is called {INPUT!r}")
    raise bad(f"expected the input {INPUT!r} once, got it {len(names)} times")


def _names(outputs: list[RequestedOutput] | None, tasks: Mapping[str, TaskSpec]) -> list[str] | None:
    if not outputs:
        return None
    names = [output.name for output in outputs]
    for name, count in Counter(names).items():
        if name not in tasks:
            raise bad(f"unexpected output {name[:64]!a}", hint=f"the model has {', '.join(tasks)}")
        if count > 1:
            raise bad(f"output {name!r} is requested {count} times")
    return names


def _asked(
    outputs: list[RequestedOutput] | None, parameters: Mapping[str, Scalar], wishes: Wishes,
    tasks: Mapping[str, TaskSpec],
) -> list[Asked]:  # fmt: skip
    by_default = _boolean(parameters, "binary_data_output", False)
    if not outputs:
        names = list(wishes.tasks) if wishes.tasks is not None else list(tasks)
        return [Asked(name, by_default) for name in names]
    found = []
    for output in outputs:
        for name in output.parameters:
            if name.startswith("shared_memory"):
                raise bad(f"output {output.name!r}: this server has no shared-memory extension")
        binary = _boolean(output.parameters, "binary_data", by_default)
        found.append(Asked(output.name, binary, _classes(output, tasks[output.name])))
    return found


def _classes(output: RequestedOutput, spec: TaskSpec) -> int:
    count = output.parameters.get("classification", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise bad(f"output {output.name!r}: classification must be a whole number from 0 up")
    if count and spec.kind != "image_classes":
        raise bad(f"output {output.name!r} has no single label: it is dense ({spec.kind})")
    return min(count, spec.channels)


def _boolean(parameters: Mapping[str, Scalar], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise bad(f"{name} must be true or false")
    return value
