"""An opened, checked task pack: a folder that is never written after it was made."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import numpy as np

from ..bundles.bundle import open_weights, read_graph, read_member
from ..bundles.graph_spec import GraphSpec
from ..bundles.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, PACK_FILE
from ..bundles.weights import Weights, file_identity
from ..errors import PackError, WeightsError
from ..tasks import TaskSpec
from .manifest import PackManifest, read_pack_manifest


class Pack:
    """A task that can join the bundle it was trained for.

    Args:
        path: the folder, absolute.
        digest: SHA-256 of pack.json, and so, as that holds the hash of everything else, of the whole pack.
        graph_bytes: of the heads, by the names of their files in the folder.
    """

    def __init__(
        self, path: Path, manifest: PackManifest, digest: str, weights: Weights, graph_bytes: dict[str, bytes]
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self.weights = weights
        # Sessions are kept by file name: one that no bundle and no other version of this pack has.
        named = {graph.file: f"pack-{digest[:16]}-{graph.file}" for graph in manifest.graphs}
        self.graphs = tuple(msgspec.structs.replace(graph, file=named[graph.file]) for graph in manifest.graphs)
        self._graph_bytes = {named[file]: data for file, data in graph_bytes.items()}
        self._opened = file_identity(weights.path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> Pack:
        """Open and check a pack.

        Args:
            verify: hash the weights even if this file was verified before.

        Raises:
            PackError: no such folder, one without a usable pack.json, or a graph that was changed or reaches outside.
            GraphError, WeightsError: that file is missing, damaged, changed, or reaches outside.
        """
        folder = Path(os.path.abspath(os.path.expanduser(path)))
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            raise PackError(f"{folder}: a task pack is a folder, here is {found}", hint=_MAKE)
        folder = folder.resolve()
        if not (folder / PACK_FILE).exists():
            what = "a bundle, no task pack" if (folder / MANIFEST_FILE).exists() else f"no task pack: no {PACK_FILE}"
            raise PackError(f"{folder}: is {what}", hint=_MAKE)
        data = read_member(folder, PACK_FILE, PackError, MAX_MANIFEST_BYTES)
        try:
            manifest = read_pack_manifest(data)
        except PackError as error:
            raise PackError(f"{folder}: {error.message}", hint=error.hint) from None
        weights = open_weights(folder, manifest.weights, verify=verify)
        _require_tensors(manifest, weights)
        graphs = {graph.file: read_graph(folder, graph, manifest.weights) for graph in manifest.graphs}
        return cls(folder, manifest, hashlib.sha256(data).hexdigest(), weights, graphs)

    @property
    def task(self) -> TaskSpec:
        """What it adds."""
        return self.manifest.task

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that it brings to the encoder."""
        return self.manifest.tensors

    def graph_bytes(self, graph: GraphSpec) -> bytes:
        """The checked bytes of one of `graphs`.

        Raises:
            WeightsError: the weights were replaced since the pack was opened: the graph would read others.
        """
        if file_identity(self.weights.path) != self._opened:
            raise WeightsError(f"{self.weights.path}: was replaced after the pack was opened", hint="add it again")
        return self._graph_bytes[graph.file]

    def folder(self, graph: GraphSpec) -> Path:
        """Where a graph's weights lie."""
        return self.path

    def tensor(self, name: str) -> np.ndarray:
        """A read-only view of one tensor of its weights.

        Raises:
            WeightsError: no tensor of that name.
        """
        return self.weights.tensor(name)

    def __repr__(self) -> str:
        return f"Pack({str(self.path)!r}, {self.task.name}, for {self.manifest.base.name})"


def _require_tensors(manifest: PackManifest, weights: Weights) -> None:
    missing = [name for name in manifest.tensors if name not in weights.header.tensors]
    if missing:
        raise WeightsError(f"{weights.path}: has no tensor {missing[0]!r}, which {PACK_FILE} names", hint=_MAKE)


_MAKE = "`slimpath add-task` makes one"
