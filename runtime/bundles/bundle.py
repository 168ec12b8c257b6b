"""A bundle: manifest.json, weights.safetensors and *.onnx side by side in one folder, never written after export.

Opening one checks: the manifest against its schema and itself; each graph's hash, and that it refers to nothing but
the weights file; the weights' size and header. The weights' full hash is taken when asked for (`verify=True`), and when
this very file was not seen before on this device.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Literal

import numpy as np

from ..cache import VerifiedFiles
from ..errors import BundleError, GraphError, ManifestError, SizeError, TaskError, WeightsError
from .graph_spec import FULL_PRECISION, GraphSpec
from .manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, is_pack, read_manifest
from .manifest_parts import WeightsSpec
from .onnx_guard import check_external_data
from .weights import Weights, file_sha256


class Bundle:
    """An opened, checked bundle.

    Args:
        path: the folder, absolute.
        manifest: what it says about itself.
        digest: SHA-256 of the manifest, and so, as that holds the hash of everything else, of the whole bundle.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str, weights: Weights, graphs: dict[str, bytes]) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self.weights = weights
        self._graph_bytes = graphs
        self._graphs = {(g.kind, g.size_hw, g.width, g.task, g.precision): g for g in manifest.graphs}

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> Bundle:
        """Open and check a bundle.

        Args:
            verify: hash the weights even if this file was verified before.

        Raises:
            BundleError: no such folder, or one without a manifest.
            ManifestError, GraphError, WeightsError: that part is missing, damaged, changed, or reaches outside.
        """
        folder = Path(os.path.abspath(os.path.expanduser(path)))
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            raise BundleError(f"{folder}: a bundle is a folder, here is {found}", hint="name the folder of an export")
        folder = folder.resolve()
        if is_pack(folder):
            raise BundleError(f"{folder}: is a task pack, no bundle", hint="name its bundle, and the pack with --pack")
        data = read_member(folder, MANIFEST_FILE, ManifestError, MAX_MANIFEST_BYTES)
        try:
            manifest = read_manifest(data)
        except ManifestError as error:
            raise ManifestError(f"{folder / MANIFEST_FILE}: {error.message}", hint=error.hint) from None
        weights = _open_weights(folder, manifest, verify)
        graphs = {graph.file: read_graph(folder, graph, manifest.weights) for graph in manifest.graphs}
        return cls(folder, manifest, hashlib.sha256(data).hexdigest(), weights, graphs)

    def graph(
        self,
        kind: Literal["encoder", "head"],
        size_hw: tuple[int, int],
        width: float,
        task: str | None = None,
        *,
        precision: str = FULL_PRECISION,
    ) -> GraphSpec:
        """The graph for a size, a width and, for heads, a task; a head that is not there in `precision` in fp32.

        Raises:
            TaskError, SizeError, BundleError: there is none; the message lists what there is.
        """
        where = (kind, (size_hw[0], size_hw[1]), width, task)
        found = self._graphs.get((*where, precision))
        if found is None and kind == "head":
            found = self._graphs.get((*where, FULL_PRECISION))
        if found is not None:
            return found
        if kind == "head" and task not in self.manifest.task_names:
            raise TaskError(f"unknown task {task!r}", hint=f"this bundle has {', '.join(self.manifest.task_names)}")
        if tuple(size_hw) not in self.manifest.sizes:
            raise SizeError(f"no graphs for size {tuple(size_hw)}", hint=f"this bundle has {self.manifest.sizes}")
        if kind == "encoder" and precision not in self.manifest.precisions:
            listed = ", ".join(self.manifest.precisions)
            raise BundleError(f"no {kind} graph in {precision}", hint=f"this bundle has {listed}")
        known = sorted(
            {g.width for g in self.manifest.graphs if (g.kind, g.size_hw, g.task) == (kind, tuple(size_hw), task)}
        )
        raise BundleError(f"no {kind} graph of width {width:g}", hint=f"there are {', '.join(f'{w:g}' for w in known)}")

    def graph_bytes(self, graph: GraphSpec) -> bytes:
        """The checked bytes of a graph's file: load these, not the file, which may have changed since."""
        return self._graph_bytes[graph.file]

    def folder(self, graph: GraphSpec) -> Path:
        """Where the weights that a graph refers to lie: the bundle's folder, but for graphs of a task pack."""
        return self.path

    def tensor(self, name: str) -> np.ndarray:
        """A read-only view of one tensor of the weights file.

        Raises:
            WeightsError: no tensor of that name.
        """
        return self.weights.tensor(name)

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {self.manifest.name}, tasks {', '.join(self.manifest.task_names)})"


def _member_status(folder: Path, name: str, error_type: type[BundleError]) -> os.stat_result:
    path = folder / name
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise error_type(f"{path}: this file of the bundle is missing", hint=_COPY_AGAIN) from None
    except OSError as error:
        raise error_type(f"{path}: cannot be read: {error.strerror or error}") from None
    if stat.S_ISLNK(status.st_mode):
        raise error_type(
            f"{path}: is a symbolic link, which the inference libraries refuse to follow",
            hint="copy the file there, or make a hard link (ln, or cp --link)",
        )
    if not stat.S_ISREG(status.st_mode):
        raise error_type(f"{path}: is not a regular file", hint="copy or export the bundle again")
    return status


def read_member(folder: Path, name: str, error_type: type[BundleError], max_bytes: int) -> bytes:
    status = _member_status(folder, name, error_type)
    if status.st_size > max_bytes:
        raise error_type(f"{folder / name}: has {status.st_size} bytes, expected at most {max_bytes}")
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise error_type(f"{folder / name}: cannot be read: {error.strerror or error}") from None


def read_graph(folder: Path, graph: GraphSpec, weights: WeightsSpec) -> bytes:
    """The bytes of a graph's file, proven to be those that were described, and to read nothing but these weights.

    Raises:
        GraphError: the file is missing, damaged, changed, or reaches outside.
    """
    data = read_member(folder, graph.file, GraphError, 1 << 31)
    where = folder / graph.file
    if len(data) != graph.bytes:
        raise GraphError(f"{where}: has {len(data)} bytes, the manifest says {graph.bytes}", hint=_COPY_AGAIN)
    if hashlib.sha256(data).hexdigest() != graph.sha256:
        raise GraphError(f"{where}: its SHA-256 is not the one in the manifest: it was changed", hint=_COPY_AGAIN)
    try:
        check_external_data(data, weights.file, weights.bytes)
    except GraphError as error:
        raise GraphError(f"{where}: {error.message}", hint=error.hint) from None
    return data


def open_weights(folder: Path, spec: WeightsSpec, *, verify: bool = False) -> Weights:
    """The weights file that a manifest describes, mapped; its full hash is taken on first sight, or if asked for.

    Raises:
        WeightsError: it is missing, damaged, changed, or a symbolic link.
    """
    status = _member_status(folder, spec.file, WeightsError)
    where = folder / spec.file
    if status.st_size != spec.bytes:
        raise WeightsError(f"{where}: has {status.st_size} bytes, the manifest says {spec.bytes}", hint=_COPY_AGAIN)
    weights = Weights(where)
    if weights.header.sha256 != spec.header_sha256:
        raise WeightsError(f"{where}: its header is not the one in the manifest: it was changed", hint=_COPY_AGAIN)
    verified = VerifiedFiles()
    if verify or not verified.knows(status, spec.sha256):
        if file_sha256(where) != spec.sha256:
            raise WeightsError(f"{where}: its SHA-256 is not the one in the manifest: it was changed", hint=_COPY_AGAIN)
        verified.remember(status, spec.sha256)
    return weights


def _open_weights(folder: Path, manifest: Manifest, verify: bool) -> Weights:
    weights = open_weights(folder, manifest.weights, verify=verify)
    named = [name for router in manifest.encoder.routers.values() for name in router.tensors]
    named += [name for adapters in manifest.encoder.adapters.values() for name in adapters]
    missing = [name for name in named if name not in weights.header.tensors]
    if missing:
        raise WeightsError(f"{weights.path}: has no tensor {missing[0]!r}, which the manifest names", hint=_COPY_AGAIN)
    return weights


_COPY_AGAIN = "copy or export the bundle again"
