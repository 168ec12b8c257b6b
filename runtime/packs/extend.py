"""A bundle and some packs as one bundle: what plans, routes and decodes sees no difference."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from pathlib import Path

import msgspec
import numpy as np

from ..bundles.bundle import Bundle
from ..bundles.encoder_spec import EncoderSpec
from ..bundles.graph_spec import GraphSpec
from ..bundles.manifest import Manifest, check_manifest
from ..errors import ManifestError, PackError
from .manifest import base_sha256
from .pack import Pack


class ExtendedBundle(Bundle):
    """A bundle with packs. The bundle's own graphs, weights and routers are the same objects as without them."""

    def __init__(self, base: Bundle, packs: Sequence[Pack], manifest: Manifest) -> None:
        digests = [base.digest, *(pack.digest for pack in packs)]
        digest = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        super().__init__(base.path, manifest, digest, base.weights, {})
        self.base = base
        self.packs = tuple(packs)
        self._pack_of_file = {graph.file: pack for pack in packs for graph in pack.graphs}
        self._pack_of_tensor = {name: pack for pack in packs for name in pack.tensors}

    def graph_bytes(self, graph: GraphSpec) -> bytes:
        """See `Bundle.graph_bytes`."""
        return self._pack_of_file.get(graph.file, self.base).graph_bytes(graph)

    def folder(self, graph: GraphSpec) -> Path:
        """See `Bundle.folder`."""
        return self._pack_of_file.get(graph.file, self.base).folder(graph)

    def tensor(self, name: str) -> np.ndarray:
        """See `Bundle.tensor`."""
        return self._pack_of_tensor.get(name, self.base).tensor(name)


def extend(base: Bundle, packs: Sequence[Pack]) -> Bundle:
    """The bundle with the tasks of these packs beside its own; the bundle itself where there are none.

    Raises:
        PackError: a pack for another bundle, a task that exists, or a pack that does not fit its bundle.
    """
    if not packs:
        return base
    manifest, taken = base.manifest, set(base.weights.header.tensors)
    for pack in packs:
        _require_fit(base, manifest, pack, taken)
        taken.update(pack.tensors)
        manifest = _joined(manifest, pack)
        try:
            check_manifest(manifest)
        except ManifestError as error:
            raise PackError(f"{pack.path}: does not fit its bundle: {error.message}", hint=_AGAIN) from None
    return ExtendedBundle(base, packs, manifest)


def _joined(manifest: Manifest, pack: Pack) -> Manifest:
    given, task, encoder = pack.manifest, pack.task.name, manifest.encoder
    routers = {**encoder.routers, task: given.router} if given.router is not None else encoder.routers
    adapters = {**encoder.adapters, task: given.adapters} if given.adapters else encoder.adapters
    return msgspec.structs.replace(
        manifest,
        tasks=(*manifest.tasks, pack.task),
        encoder=msgspec.structs.replace(encoder, routers=routers, adapters=adapters),
        graphs=(*manifest.graphs, *pack.graphs),
        accuracies=(*manifest.accuracies, *given.accuracies),
    )


def _require_fit(base: Bundle, manifest: Manifest, pack: Pack, taken: Set[str]) -> None:
    task, wanted, given = pack.task.name, base_sha256(base.manifest), pack.manifest.base
    if given.sha256 != wanted:
        raise PackError(
            f"{pack.path}: task {task!r} was trained for another bundle, {given.name} ({given.sha256[:12]}); "
            f"this is {manifest.name} ({wanted[:12]})",
            hint="use it with that bundle, or train the task for this one with `slimpath add-task`",
        )
    if task in manifest.task_names:
        raise PackError(
            f"{pack.path}: there is a task {task!r} already",
            hint="remove that pack first, or train this one again under another name",
        )
    for name in pack.tensors:
        if name in taken:
            raise PackError(f"{pack.path}: there is a tensor {name!r} already, not of this pack", hint=_AGAIN)
    _require_shapes(base, pack)


def _require_shapes(base: Bundle, pack: Pack) -> None:
    """A pack brings what every task of the bundle brings, in the same shapes."""
    encoder = base.manifest.encoder
    for what, names, wanted in (
        ("routers", _router_names(pack), _router_shapes(encoder)),
        ("adapters", list(pack.manifest.adapters), _adapter_shapes(base)),
    ):
        shapes = [pack.weights.header.tensors[name].shape for name in names]
        if [tuple(shape) for shape in shapes] != wanted:
            raise PackError(
                f"{pack.path}: the {what} of task {pack.task.name!r} have shapes {shapes}, this bundle takes {wanted}",
                hint=_AGAIN,
            )


def _router_names(pack: Pack) -> list[str]:
    router = pack.manifest.router
    return [] if router is None else [name for name in (*router.weights, *router.biases) if name is not None]


def _router_shapes(encoder: EncoderSpec) -> list[tuple[int, ...]]:
    blocks = len(encoder.moe_blocks)
    return [(encoder.dim, encoder.experts)] * blocks + [(encoder.experts,)] * blocks


def _adapter_shapes(base: Bundle) -> list[tuple[int, ...]]:
    first = next(iter(base.manifest.encoder.adapters.values()), ())
    return [tuple(base.weights.header.tensors[name].shape) for name in first]


_AGAIN = "train it again with `slimpath add-task`"
