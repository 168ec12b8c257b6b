"""Graphs for GPUs read out of a bundle, checked at that moment: most users of a bundle never need them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import BundleError, GraphError
from .bundle import Bundle, open_weights, read_member
from .gpu_spec import GpuGraphSpec, GpuSpec
from .onnx_guard import check_external_data


def gpu_spec(bundle: Bundle) -> GpuSpec:
    """What the bundle says of its graphs for GPUs.

    Raises:
        BundleError: it has none.
    """
    if bundle.manifest.gpu is None:
        raise BundleError(
            f"{bundle.path}: this bundle has no graphs for GPUs",
            hint="export it again: slimpath export BUNDLE --out NEW --target gpu",
        )
    return bundle.manifest.gpu


def read_gpu_graph(bundle: Bundle, graph: GpuGraphSpec) -> bytes:
    """The bytes of a graph's file. Load these, not the file, which may have changed since.

    Raises:
        BundleError: the bundle has no graphs for GPUs.
        GraphError: the file is missing, damaged or changed, or refers to anything but the weights for GPUs.
    """
    weights = gpu_spec(bundle).weights
    where = bundle.path / graph.file
    data = read_member(bundle.path, graph.file, GraphError, 1 << 31)
    if len(data) != graph.bytes or hashlib.sha256(data).hexdigest() != graph.sha256:
        raise GraphError(
            f"{where}: is not the file that the manifest describes", hint="copy or export the bundle again"
        )
    try:
        check_external_data(data, weights.file, weights.bytes)
    except GraphError as error:
        raise GraphError(f"{where}: {error.message}", hint=error.hint) from None
    return data


def check_gpu_weights(bundle: Bundle, *, verify: bool = False) -> Path:
    """The file of the weights for GPUs; its full hash is taken on first sight, or if asked to `verify`.

    Raises:
        BundleError: the bundle has no graphs for GPUs.
        WeightsError: the file is missing, damaged, changed or a symbolic link.
    """
    spec = gpu_spec(bundle).weights
    open_weights(bundle.path, spec, verify=verify)
    return bundle.path / spec.file
