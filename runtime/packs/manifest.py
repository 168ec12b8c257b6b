"""pack.json: what a task pack says about itself, and which bundle it belongs to.

    pack.json                    this
    weights.safetensors          the task's router, adapters and head, nothing of the bundle
    head-TASK-224x224-w0.5.onnx  one per input size and decoder width of the bundle

A pack names its bundle by a hash of what computes: weights, encoders, preprocessing. A bundle that was written again
with other accuracies is still the same one.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from ..bundles.accuracy import Accuracy
from ..bundles.encoder_spec import RouterSpec
from ..bundles.graph_spec import GraphSpec
from ..bundles.manifest import PACK_FILE, Manifest
from ..bundles.manifest_parts import WeightsSpec
from ..errors import PackError
from ..tasks import TaskSpec

PACK_VERSION = 1


class PackBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bundle that a pack belongs to; `sha256` is that of `base_sha256`."""

    name: str
    sha256: str


class AddedParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers that a pack adds, by what they are, beside those of the bundle's weights."""

    router: int
    adapters: int
    head: int
    base: int

    @property
    def in_encoder(self) -> int:
        """What the encoder reads: router and adapters. CLR's figure for its own adapters counts the like of these."""
        return self.router + self.adapters

    @property
    def total(self) -> int:
        return self.in_encoder + self.head


class PackManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a pack says about itself. `router` and `adapters` name tensors of its weights, as a bundle's do."""

    pack_version: int
    slimpath_version: str
    licence: str
    base: PackBase
    task: TaskSpec
    graphs: tuple[GraphSpec, ...]
    weights: WeightsSpec
    parameters: AddedParameters
    router: RouterSpec | None = None
    adapters: tuple[str, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    provenance: dict[str, Any] = {}

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that it brings to the encoder."""
        return (*(self.router.tensors if self.router is not None else ()), *self.adapters)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the pack but pack.json."""
        return (self.weights.file, *(graph.file for graph in self.graphs))


class _Version(msgspec.Struct):
    pack_version: int


def base_sha256(manifest: Manifest) -> str:
    """What a pack knows its bundle by: SHA-256 over its weights, its encoders and how it prepares pictures."""
    encoders = sorted(graph.sha256 for graph in manifest.graphs if graph.kind == "encoder")
    parts = [manifest.weights.sha256, *encoders, msgspec.json.encode(manifest.preprocessing).decode()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_pack_manifest(data: bytes) -> PackManifest:
    """Parse and check the bytes of pack.json.

    Raises:
        PackError: not JSON, another version, a missing, unknown or ill-typed field, or fields that contradict each
            other.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).pack_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise PackError(f"{PACK_FILE} cannot be read: {error}", hint=_COPY_AGAIN) from None
    if version != PACK_VERSION:
        way_on = "upgrade slimpath" if version > PACK_VERSION else "train it again with `slimpath add-task`"
        raise PackError(f"{PACK_FILE} is of version {version}, this build reads {PACK_VERSION}", hint=way_on)
    try:
        manifest = msgspec.json.decode(data, type=PackManifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PackError(f"{PACK_FILE} does not fit version {version}: {error}", hint=_COPY_AGAIN) from None
    _check(manifest)
    return manifest


def encode_pack_manifest(manifest: PackManifest) -> bytes:
    """The bytes to write as pack.json; equal manifests give equal bytes.

    Raises:
        PackError: it contradicts itself.
    """
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    read_pack_manifest(data)
    return data


def _check(manifest: PackManifest) -> None:
    """What only a pack must hold; the rest is checked where it joins its bundle, as for any bundle."""
    name = manifest.task.name
    for graph in manifest.graphs:
        if graph.kind != "head" or graph.task != name:
            raise PackError(f"a pack holds heads of its task {name!r} alone, got {graph.file!r}", hint=_COPY_AGAIN)
    for file in manifest.files:
        # Bare names only: a pack is flat, and no name in it may lead anywhere else, on any system.
        if not file or any(c in file for c in "/\\:\0") or file in (".", "..", PACK_FILE) or len(file) > 200:
            raise PackError(f"a file of a pack must have a bare name, got {file!r}", hint=_COPY_AGAIN)
    if not manifest.graphs or len(set(manifest.files)) != len(manifest.files):
        raise PackError("a pack must list its heads, each in a file of its own", hint=_COPY_AGAIN)
    if strangers := [point.task for point in manifest.accuracies if point.task != name]:
        raise PackError(f"a pack knows accuracies of its task {name!r} alone, got {strangers[0]!r}", hint=_COPY_AGAIN)


_COPY_AGAIN = "copy the pack again, or train it again with `slimpath add-task`"
