"""manifest.json: the one description that export writes and the runtime reads.

The structs say which fields there are; `check_manifest` says what must hold between them. Each part has its room, with
its checks: `encoder_spec`, `graph_spec`, `gpu_spec`, `preprocessing`, `accuracy`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ManifestError
from ..tasks import TaskSpec
from .accuracy import Accuracy, check_accuracies
from .encoder_spec import EncoderSpec, check_encoder
from .gpu_spec import GpuSpec, gpu_problem
from .graph_spec import FULL_PRECISION, GraphSpec, check_graphs
from .manifest_checks import EXPORT_AGAIN, require, require_file, require_sha256
from .manifest_parts import WeightsSpec
from .preprocessing import Preprocessing, check_preprocessing

SCHEMA_VERSION = 1
READABLE_VERSIONS = (1,)
MANIFEST_FILE = "manifest.json"
PACK_FILE = "pack.json"  # what a task pack has instead: see runtime/packs
MAX_MANIFEST_BYTES = 64 << 20  # a real one is some 100 kB; whatever is larger is not ours
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a bundle says about itself. Empty `accuracies` means unmeasured, no `gpu` that no graph is for one."""

    schema_version: int
    name: str
    family: str
    slimpath_version: str
    licence: str
    tasks: tuple[TaskSpec, ...]
    preprocessing: Preprocessing
    encoder: EncoderSpec
    sizes: tuple[tuple[int, int], ...]
    widths: tuple[float, ...]
    graphs: tuple[GraphSpec, ...]
    weights: WeightsSpec
    accuracies: tuple[Accuracy, ...] = ()
    model: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    gpu: GpuSpec | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the bundle but the manifest."""
        beside = (self.gpu.weights.file, *(graph.file for graph in self.gpu.graphs)) if self.gpu is not None else ()
        return (self.weights.file, *(graph.file for graph in self.graphs), *beside)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of the encoders, fp32 first."""
        found = {graph.precision for graph in self.graphs if graph.kind == "encoder"} - {FULL_PRECISION}
        return (FULL_PRECISION, *sorted(found))

    @property
    def is_moe(self) -> bool:
        return bool(self.encoder.moe_blocks)

    @property
    def rows_per_task(self) -> bool:
        """Whether the encoder computes a row for every task of an image, or one for all of them."""
        return self.is_moe or bool(self.encoder.adapters)


class _Version(msgspec.Struct):
    schema_version: int


def read_manifest(data: bytes) -> Manifest:
    """Parse and check the bytes of manifest.json.

    Raises:
        ManifestError: not JSON, a schema version that this build does not read, a missing, unknown or ill-typed
            field, or fields that contradict each other.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"the manifest must be at most {MAX_MANIFEST_BYTES} bytes, got {len(data)}")
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
    except msgspec.ValidationError as error:
        raise ManifestError(f"the manifest has no usable schema_version: {error}", hint=EXPORT_AGAIN) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"the manifest is not JSON: {error}", hint=EXPORT_AGAIN) from None
    if version not in READABLE_VERSIONS:
        readable = ", ".join(map(str, READABLE_VERSIONS))
        way_on = "upgrade slimpath" if version > SCHEMA_VERSION else "export the bundle again"
        raise ManifestError(f"schema_version {version} is not one that this build reads ({readable})", hint=way_on)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise ManifestError(f"the manifest does not fit schema_version {version}: {error}", hint=EXPORT_AGAIN) from None
    check_manifest(manifest)
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes to write as manifest.json: indented JSON with a final newline; equal manifests give equal bytes.

    Raises:
        ManifestError: the manifest contradicts itself; nothing that `read_manifest` would refuse is ever written.
    """
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    read_manifest(data)  # a struct built in Python was never validated; NaN would have become null
    return data


def is_pack(folder: Path) -> bool:
    """Whether a folder is a task pack, and no bundle."""
    return (folder / PACK_FILE).is_file() and not (folder / MANIFEST_FILE).exists()


def check_manifest(manifest: Manifest) -> None:
    """What must hold between the fields.

    Raises:
        ManifestError: naming the field, what it must be, and what it is.
    """
    sizes, tasks, files = manifest.sizes, manifest.task_names, {MANIFEST_FILE, manifest.weights.file}
    adapters = len(next(iter(manifest.encoder.adapters.values()), ()))
    _check_tasks(manifest)
    _check_sizes(manifest)
    check_preprocessing(manifest.preprocessing)
    check_encoder(manifest.encoder, tasks)
    check_graphs(manifest.graphs, sizes=sizes, widths=manifest.widths, tasks=tasks, adapters=adapters, taken=files)
    check_accuracies(manifest.accuracies, sizes=sizes, tasks=tasks)
    _check_gpu(manifest)
    require_file("weights.file", manifest.weights.file)
    require_sha256("weights.sha256", manifest.weights.sha256)
    require_sha256("weights.header_sha256", manifest.weights.header_sha256)
    require(manifest.weights.bytes > 8, "weights.bytes", "more than 8", manifest.weights.bytes)


def _check_tasks(manifest: Manifest) -> None:
    names = manifest.task_names
    require(bool(names), "tasks", "at least one task", "none")
    for task in manifest.tasks:
        where = f"tasks[{task.name}]"
        require(names.count(task.name) == 1, where, "listed once", names.count(task.name))
        require(bool(TASK_NAME.fullmatch(task.name)), where, "named by letters, digits, _ and -", task.name)
        wanted = {"depth": 1, "probability": 1, "normals": 3}.get(task.kind, task.channels)
        require(task.channels == wanted >= 1, f"{where}.channels", f"{max(wanted, 1)}", task.channels)
        if task.kind == "classes":
            require(task.channels <= 256, f"{where}.channels", "at most 256 (ids are uint8)", task.channels)
        for field, values in (("classes", task.classes), ("palette", task.palette)):
            require(
                not values or len(values) == task.channels, f"{where}.{field}", f"{task.channels} entries", len(values)
            )
        for colour in task.palette:
            require(all(0 <= c <= 255 for c in colour), f"{where}.palette", "RGB from 0 to 255", colour)


def _check_sizes(manifest: Manifest) -> None:
    patch = manifest.encoder.patch
    require(patch >= 1, "encoder.patch", "at least 1", patch)
    require(bool(manifest.sizes), "sizes", "at least one size", "none")
    require(len(set(manifest.sizes)) == len(manifest.sizes), "sizes", "without repeats", manifest.sizes)
    for height, width in manifest.sizes:
        fits = height > 0 and width > 0 and height % patch == 0 and width % patch == 0
        require(fits, "sizes", f"multiples of the patch, {patch}", (height, width))
        require(height <= 16384 and width <= 16384, "sizes", "at most 16384", (height, width))
    widths = manifest.widths
    require(bool(widths), "widths", "at least one width", "none")
    require(all(0 < w <= 1 for w in widths), "widths", "above 0, at most 1", widths)
    require(list(widths) == sorted(set(widths)), "widths", "ascending", widths)


def _check_gpu(manifest: Manifest) -> None:
    if manifest.gpu is None:
        return
    gpu, taken = manifest.gpu, {MANIFEST_FILE, manifest.weights.file, *(graph.file for graph in manifest.graphs)}
    problem = gpu_problem(
        gpu, sizes=manifest.sizes, tasks=manifest.task_names, top_k=manifest.encoder.top_k, taken=taken
    )
    if problem is not None:
        require(False, *problem)
    for name, digest in ((gpu.weights.file, gpu.weights.sha256), *((graph.file, graph.sha256) for graph in gpu.graphs)):
        require_file("gpu.graphs.file", name)
        require_sha256("gpu.graphs.sha256", digest)
    require_sha256("gpu.weights.header_sha256", gpu.weights.header_sha256)
