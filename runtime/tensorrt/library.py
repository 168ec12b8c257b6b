"""The library `tensorrt` itself: its import, its version, and what it logs."""

from __future__ import annotations

from collections import deque
from importlib import import_module
from typing import Any

from ..backends import base
from ..errors import BackendError
from .names import TrtModule

# JetPack's and pip's own; of the pip ones for one CUDA only, the bindings come with either of two names.
_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings")
_OLDEST, _NEWEST = 10, 11  # majors whose bindings were checked
_KEPT_MESSAGES = 8


def load_tensorrt() -> TrtModule:
    """The module `tensorrt`, of a version that this was written for.

    Raises:
        BackendError: it is missing, broken, or of another major version; with the cure.
    """
    try:
        trt: TrtModule = import_module("tensorrt")
        version, _ = trt.__version__, trt.Runtime  # a broken install is a folder without contents
    except (ImportError, AttributeError, OSError) as error:
        raise BackendError(
            f"TensorRT cannot be imported: {error}",
            hint="on a Jetson: sudo apt install python3-libnvinfer, and a virtual environment that sees it "
            "(python3 -m venv --system-site-packages); elsewhere: pip install tensorrt",
        ) from error
    if not _OLDEST <= major(version) <= _NEWEST:
        raise BackendError(
            f"TensorRT {version} is not a version that slimpath knows",
            hint=f"install one from {_OLDEST}.3 to {_NEWEST}.4",
        )
    return trt


def installed_version() -> str:
    """Of the installed package, found without importing it; "missing" where there is none."""
    return base.installed_version(_DISTRIBUTIONS)


def major(version: str) -> int:
    """10 of "10.16.1.11"; 0 where it does not begin with a number."""
    first = version.split(".", 1)[0]
    return int(first) if first.isdigit() else 0


def make_logger(trt: TrtModule) -> Any:
    """A logger that keeps the last errors and warnings in `messages` and prints nothing.

    TensorRT's own prints to stdout, and its calls return only None or False: what was wrong is in the log alone.
    """
    wrong = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
    told = (*wrong, trt.ILogger.WARNING)

    class Kept(trt.ILogger):  # type: ignore[name-defined]  # a class of the library, known only here
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 insists on this form
            self.messages: deque[tuple[bool, str]] = deque(maxlen=_KEPT_MESSAGES)

        def log(self, severity: Any, msg: str) -> None:
            if severity in told:
                self.messages.append((severity in wrong, msg))

    return Kept()


def reason(log: Any) -> str:
    """The last error that a logger of `make_logger` kept, or the last warning, or that there was neither."""
    kept: list[tuple[bool, str]] = list(log.messages)
    errors = [text for is_error, text in kept if is_error]
    found = errors or [text for _, text in kept]
    return " ".join(found[-1].split()) if found else "it logged no reason"
