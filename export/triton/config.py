"""config.pbtxt: what Triton is told of a model, in protobuf's text form.

Field names and their types are those of ModelConfig in model_config.proto (triton-inference-server/common); the tests
parse every file that is written here with the classes that NVIDIA generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

from ...runtime.bundles.manifest import Manifest
from ...runtime.tasks import TaskSpec

CONFIG_FILE = "config.pbtxt"
ENCODED, PIXELS, CONTENT_BOX = "image", "pixels", "content_box"
MAX_BATCH = 8
QUEUE_DELAY_US = 2000  # that a request waits for company


class Word(str):
    """A text that is written without quotes: an enumeration's value."""


Value = Union[str, int, bool, "Mapping[str, Value]", "Sequence[Value]"]


def to_text(message: Mapping[str, Value], indent: str = "") -> str:
    """A protobuf message in text form: nested messages in braces, repeated ones once each."""
    lines: list[str] = []
    for name, value in message.items():
        for item in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
            if isinstance(item, Mapping):
                lines += [f"{indent}{name} {{", to_text(item, indent + "  ").rstrip("\n"), f"{indent}}}"]
            else:
                lines.append(f"{indent}{name}: {_scalar(item)}")
    return "\n".join(line for line in lines if line.strip()) + "\n"


def python_model(name: str, manifest: Manifest, settings: Mapping[str, str]) -> dict[str, Value]:
    """Of the model that wraps the runtime: any budget, any tasks, requests batched.

    A request brings either `image` (the bytes of one picture file a row) or `pixels` (uint8 [H, W, 3] a row); both are
    optional for Triton, which has no "one of".
    """
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": MAX_BATCH,
        "input": [
            {"name": ENCODED, "data_type": Word("TYPE_STRING"), "dims": [1], "optional": True},
            {
                "name": PIXELS,
                "data_type": Word("TYPE_UINT8"),
                "dims": [-1, -1, 3],
                "allow_ragged_batch": True,  # pictures of several sizes share a batch: each request keeps its own array
                "optional": True,
            },
        ],
        "output": [_output(spec, dense_hw(manifest)) for spec in manifest.tasks],
        "dynamic_batching": {"max_queue_delay_microseconds": QUEUE_DELAY_US},
        "instance_group": [{"count": 1, "kind": Word("KIND_CPU")}],
        "parameters": [{"key": key, "value": {"string_value": value}} for key, value in settings.items()],
    }


def onnx_model(name: str, tasks: Sequence[TaskSpec], size_hw: tuple[int, int]) -> dict[str, Value]:
    """Of the ONNX file of one width: a picture of any size in, all answers out, one picture a request."""
    box: dict[str, Value] = {"name": CONTENT_BOX, "data_type": Word("TYPE_INT64"), "dims": [4]}
    return {
        "name": name,
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "max_batch_size": 0,
        "input": [{"name": ENCODED, "data_type": Word("TYPE_UINT8"), "dims": [-1, -1, 3]}],
        "output": [*(_output(spec, size_hw, onnx=True) for spec in tasks), box],
        "instance_group": [{"count": 1, "kind": Word("KIND_CPU")}],
    }


def dense_hw(manifest: Manifest) -> tuple[int, int]:
    """Height and width of dense answers: the network's where it has one size, any (-1) where the plan chooses."""
    return manifest.sizes[0] if len(manifest.sizes) == 1 else (-1, -1)


def labels_file(spec: TaskSpec) -> str | None:
    """Name of the file with a task's class names, for Triton's classification extension; None for dense tasks."""
    return f"{spec.name}.labels.txt" if spec.kind == "image_classes" and spec.classes else None


def _output(spec: TaskSpec, size_hw: tuple[int, int], *, onnx: bool = False) -> dict[str, Value]:
    height, width = size_hw
    dims, data_type = [height, width], "TYPE_FP32"
    if spec.kind == "image_classes":
        dims = [spec.channels]
    elif spec.kind == "normals":
        dims = [3, height, width] if onnx else [height, width, 3]
    elif spec.kind == "classes":
        data_type = "TYPE_INT64" if onnx else "TYPE_UINT8"
    output: dict[str, Value] = {"name": spec.name, "data_type": Word(data_type), "dims": dims}
    file = labels_file(spec)
    return output | {"label_filename": file} if file else output


def _scalar(value: Value) -> str:
    if isinstance(value, Word):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return f'"{escaped}"'
    raise TypeError(f"no text form for {value!r}")
