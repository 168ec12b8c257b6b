"""Inference libraries behind one small contract: one file each, with load, run and close.

Other packages add theirs by an entry point of the group `slimpath.backends`: a callable that takes `threads` and
`precision` and gives a `Backend`. slimpath's own torch backend comes that way, since nothing here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import BackendError
from .base import Backend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ..bundles.bundle import Bundle

ENTRY_POINTS = "slimpath.backends"
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
AUTO = "auto"

_OWN = {
    "onnxruntime": ("ort", "OrtBackend"),
    "onnxruntime-cuda": ("providers", "OrtCudaBackend"),
    "onnxruntime-tensorrt": ("providers", "OrtTensorrtBackend"),
    "openvino": ("openvino", "OpenvinoBackend"),
    "tensorrt": ("tensorrt", "TensorrtBackend"),
}
_WITH_PRECISION = {"openvino", "tensorrt"}  # of our own; those of entry points always take one
NAMES = (*_OWN, AUTO)


def backend_names() -> tuple[str, ...]:
    """Every backend that `make_backend` knows here, whether or not its library is installed."""
    return (*_OWN, *sorted(entry.name for entry in _entry_points() if entry.name not in NAMES), AUTO)


def make_backend(
    name: str, *, threads: int | None = None, precision: str = "fp32", bundle: Bundle | None = None
) -> Backend:
    """The backend of that name.

    Args:
        name: one of `backend_names()`, or with a precision behind it: "openvino-bf16". "auto" is the fastest that
            gives the bundle's answers, as measured; it measures for some seconds if nobody has yet.
        threads: per run; None for the CPUs that this process may use.
        precision: what the large products are computed in, or "auto" for the library's fastest; routers always in fp32.
        bundle: what "auto" measures with.

    No inference library is imported yet: that happens at the first load, or where a precision below fp32 or "auto"
    has to look at the device.

    Raises:
        BackendError: no backend of that name, or it cannot be had in that precision.
    """
    name, precision = _split(name, precision)
    if name == AUTO:
        if bundle is None:
            raise BackendError('the backend "auto" is chosen by measuring a bundle', hint="name a backend, or a bundle")
        from .auto import choose_backend

        return choose_backend(bundle, threads=threads, precision=precision)
    if name in _OWN:
        module, attribute = _OWN[name]
        make = getattr(import_module(f".{module}", __name__), attribute)
        if name in _WITH_PRECISION:
            return make(threads=threads, precision=precision)
        if precision not in ("fp32", "auto"):
            raise BackendError(
                f"{name} computes in fp32, not in {precision}",
                hint="use --backend openvino or torch for bf16; int8 is a matter of the bundle (precision=int8)",
            )
        return make(threads=threads)
    for entry in _entry_points():
        if entry.name == name:
            return _load(entry)(threads=threads, precision=precision)
    raise BackendError(f"unknown backend {name!r}", hint=f"this version has {', '.join(backend_names())}")


def _split(name: str, precision: str) -> tuple[str, str]:
    """Name and precision: "openvino-bf16" is openvino in bf16."""
    base, _, last = name.rpartition("-")
    if last not in PRECISIONS:
        return name, precision
    if precision not in ("fp32", last):
        raise BackendError(f"the backend {name!r} computes in {last}, and {precision} was asked for")
    return base, last


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # here: most runs need none, and it takes 10 ms to import

    return list(entry_points(group=ENTRY_POINTS))


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        hint = f'pip install "slimpath[export]" for {entry.name}' if entry.value.startswith("slimpath.") else ""
        raise BackendError(f"the backend {entry.name!r} cannot be imported: {error}", hint=hint) from error
