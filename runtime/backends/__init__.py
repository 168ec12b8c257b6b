"""Inference libraries behind one small contract: one file each, with load, run and close."""

from __future__ import annotations

from ..errors import BackendError
from .base import Backend

NAMES = ("onnxruntime",)


def make_backend(name: str, *, threads: int | None = None) -> Backend:
    """The backend of that name. Imports no inference library yet: that happens at the first load.

    Raises:
        BackendError: no backend of that name.
    """
    if name == "onnxruntime":
        from .ort import OrtBackend

        return OrtBackend(threads=threads)
    raise BackendError(f"unknown backend {name!r}", hint=f"this version has {', '.join(NAMES)}")
