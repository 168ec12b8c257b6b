"""A task's array -> the file or value that was asked for. Runs in the pool: it is arithmetic."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...runtime.imaging.images import quiet_cv2
from ...runtime.tasks import TaskKind, TaskSpec
from ..errors import HttpError
from .masks import polygons, run_lengths

AUTO = "auto"
# Of each kind, the format of "auto" first.
FORMATS_BY_KIND: dict[TaskKind, tuple[str, ...]] = {
    "classes": ("rle", "polygons", "png", "png8", "npy", "npz", "json"),
    "depth": ("png16", "png", "npy", "npz", "json"),
    "normals": ("png16", "png", "npy", "npz", "json"),
    "probability": ("png16", "png", "npy", "npz", "json"),
    "image_classes": ("json", "npy", "npz"),
}
ALL_FORMATS = (AUTO, "png", "png8", "png16", "npy", "npz", "json", "rle", "polygons")
_FAST_PNG = 1  # zlib's level: half the time of the default for a tenth more bytes


class FormatError(HttpError):
    """A format that is not one, or that the task does not come in."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(422, "bad_format", message, hint=hint)


@dataclass(frozen=True)
class Encoded:
    """One output, ready to be sent.

    Args:
        parts: the file's bytes, in pieces: an array's are where the engine left them. None where `value` says it all.
        details: further fields of `schemas.Output`: shape, dtype, scale, offset, classes.
    """

    format: str
    media_type: str
    extension: str
    parts: tuple[bytes | memoryview, ...] = ()
    value: Any = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The whole file."""
        return b"".join(self.parts)


class _Scale(NamedTuple):
    """Stored = (quantity - offset) / scale, rounded, in 0 .. 65535."""

    scale: float
    offset: float


_PNG16: dict[TaskKind, _Scale] = {
    "depth": _Scale(1e-3, 0.0),  # millimetres, as depth cameras store them
    "normals": _Scale(2 / 65535, -1.0),
    "probability": _Scale(1 / 65535, 0.0),
}


def choose_formats(
    request: str | Mapping[str, str] | None, wanted: Iterable[str], specs: Mapping[str, TaskSpec]
) -> dict[str, str]:
    """Task -> format.

    Args:
        request: as in `schemas.Options.format`.
        wanted: the tasks of the request.

    Raises:
        FormatError: no such format, one that the task does not come in, or one for a task that was not asked for.
    """
    for_all, for_task = _read(request)
    names = list(wanted)
    stray = [task for task in for_task if task not in names]
    if stray:
        hint = f"asked for are {', '.join(names)}"
        raise FormatError(f"a format is given for {stray[0][:64]!r}, which is not asked for", hint=hint)
    return {task: _choose(specs[task], for_task.get(task), for_all) for task in names}


def _read(request: str | Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    if isinstance(request, Mapping):
        return AUTO, {task: _known(name) for task, name in request.items()}
    for_all, for_task = AUTO, {}
    for part in (request or AUTO).split(","):
        task, equals, name = part.partition("=")
        if equals:
            for_task[task.strip()] = _known(name.strip())
        else:
            for_all = _known(part.strip())
    return for_all, for_task


def _known(name: str) -> str:
    if name not in ALL_FORMATS:
        raise FormatError(f"there is no format {name[:64]!r}", hint=f"formats: {', '.join(ALL_FORMATS)}")
    return name


def _choose(spec: TaskSpec, own: str | None, for_all: str) -> str:
    known = FORMATS_BY_KIND[spec.kind]
    if own is not None and own != AUTO:
        if own not in known:
            raise FormatError(f"task {spec.name!r} does not come as {own}", hint=f"it comes as {', '.join(known)}")
        return own
    return for_all if own is None and for_all in known else known[0]


def encode(
    spec: TaskSpec, values: np.ndarray, format: str, draw: Callable[[str], bytes], *, max_json_values: float
) -> Encoded:
    """Bring one task's array into a format of FORMATS_BY_KIND.

    Args:
        draw: task -> its picture for people as a PNG file.
        max_json_values: numbers that a list in JSON may have.

    Raises:
        HttpError: 422; more numbers than that.
    """
    details: dict[str, Any] = {"shape": list(values.shape), "dtype": values.dtype.name}
    if spec.classes:
        details["classes"] = list(spec.classes)
    if format == "json" and values.size > max_json_values:
        raise HttpError(
            422, "output_too_large", f"task {spec.name!r} has {values.size} numbers; JSON lists have at most "
            f"{max_json_values:.0f}", hint='ask for format "npy" or "png16"',
        )  # fmt: skip
    if format == "png":
        return Encoded(format, "image/png", "png", (draw(spec.name),), details=details)
    if format == "png8":
        return Encoded(format, "image/png", "png", (_png(values),), details=details)
    if format == "png16":
        scale = _PNG16[spec.kind]
        return Encoded(format, "image/png", "png", (_png16(values, scale),), details=details | scale._asdict())
    if format in ("npy", "npz"):
        parts = _npy(values) if format == "npy" else (_npz(spec.name, values),)
        return Encoded(format, "application/octet-stream", format, parts, details=details)
    return Encoded(format, "application/json", "json", value=_value(spec, values, format), details=details)


def _value(spec: TaskSpec, values: np.ndarray, format: str) -> Any:
    if format == "rle":
        return run_lengths(values, spec.classes)
    if format == "polygons":
        return polygons(values, spec.classes)
    if spec.kind != "image_classes":
        return _plain(values)
    best = int(np.argmax(values))
    names = [spec.classes[index] if index < len(spec.classes) else str(index) for index in range(len(values))]
    return {"label": names[best], "probability": float(values[best]), "probabilities": dict(zip(names, _plain(values)))}


def _plain(values: np.ndarray) -> Any:
    """Lists of numbers; five decimals are a hundredth of a millimetre, and half the text of what float32 prints as."""
    if values.dtype.kind != "f":
        return values.tolist()
    return np.round(_finite(values), 5).tolist()


def _finite(values: np.ndarray) -> np.ndarray:
    """float64, 0 for NaN: neither JSON nor pictures have a sign for it."""
    return np.nan_to_num(values.astype(np.float64), posinf=1e30, neginf=-1e30)


def _png16(values: np.ndarray, scale: _Scale) -> bytes:
    stored = np.rint((_finite(values) - scale.offset) / scale.scale)
    return _png(np.clip(stored, 0, 65535).astype(np.uint16))


def _png(values: np.ndarray) -> bytes:
    cv2 = quiet_cv2()
    pixels = cv2.cvtColor(values, cv2.COLOR_RGB2BGR) if values.ndim == 3 else values
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, _FAST_PNG])
    if not done:
        raise HttpError(422, "output_too_large", f"{list(values.shape)} does not fit into a PNG file")
    return data.tobytes()


def _npy(values: np.ndarray) -> tuple[bytes, memoryview]:
    """Header and values of a .npy file, without a copy of the values where they lie in order."""
    header = io.BytesIO()
    values = np.asarray(values, order="C")
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
    return header.getvalue(), values.reshape(-1).view(np.uint8).data


def _npz(name: str, values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: values})  # pyright: ignore[reportArgumentType]  # its stub knows no names
    return buffer.getvalue()
