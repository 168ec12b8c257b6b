"""manifest.json: the one description that export writes and the runtime reads.

The structs say which fields there are; `check_manifest` says what must hold between them.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..errors import ManifestError
from ..tasks import TaskSpec
from .gpu_spec import GpuSpec, gpu_problem
from .manifest_parts import Cost, Parity, WeightsSpec

SCHEMA_VERSION = 1
READABLE_VERSIONS = (1,)
FULL_PRECISION = "fp32"  # the precision that every size and width has; the others are extra
MANIFEST_FILE = "manifest.json"
PACK_FILE = "pack.json"  # what a task pack has instead: see runtime/packs
MAX_MANIFEST_BYTES = 64 << 20  # a real one is some 100 kB; whatever is larger is not ours


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes the encoder's input: fit to size, / 255, - mean, / std. Padding is `pad_rgb`."""

    fit: Literal["letterbox", "stretch"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["rgb"] = "rgb"
    pad_rgb: tuple[int, int, int] = (0, 0, 0)


class BlockExperts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The experts of one MoE block that a task can reach, and what the calibration images showed of all of them.

    `mass` is each expert's share [E] of the router weight of all visits, the mean over input sizes and encoder widths.
    Of that, `covered` is the share of `kept`; `probability` is their share of the whole softmax, visited or not: a
    router that knows `kept` alone multiplies its weights by 1 / `probability`. Both are those of the size and width
    where they are least.
    """

    kept: tuple[int, ...]
    mass: tuple[float, ...]
    covered: float
    probability: float


class ExpertPaths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task's expert paths, an entry per MoE block; the biases of experts that are not kept are -inf.

    `open_biases` are the biases without those -inf, tensors [E] too; empty where every expert is kept.
    """

    coverage: float
    blocks: tuple[BlockExperts, ...]
    images: int
    source: str
    open_biases: tuple[str, ...] = ()


class RouterSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task's routers, one per MoE block: names of tensors [D, E], and of biases [E] or null for none.

    `paths` is null where nobody measured which experts the task visits: then it can reach all of them.
    """

    weights: tuple[str, ...]
    biases: tuple[str | None, ...] = ()
    paths: ExpertPaths | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors that belong to it."""
        opened = self.paths.open_biases if self.paths is not None else ()
        return tuple(name for name in (*self.weights, *self.biases, *opened) if name is not None)


class EncoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encoder's dimensions. Dense: moe_blocks empty, experts and top_k 0, no routers.

    `adapters` names the tensors of each task's low-rank adapters, in the order in which the graph reads them. `levels`
    is (pixels per token, channels) of each resolution of a backbone that has several, the deepest (`tokens`) last;
    such tokens have no class token before them. `taps` are blocks of a ViT whose tokens it gives besides the last ones,
    as `level_0` and so on, class token first.
    """

    dim: int
    depth: int
    heads: int
    patch: int
    moe_blocks: tuple[int, ...] = ()
    experts: int = 0
    top_k: int = 0
    detail_channels: int = 0
    routers: dict[str, RouterSpec] = {}
    adapters: dict[str, tuple[str, ...]] = {}
    levels: tuple[tuple[int, int], ...] = ()
    taps: tuple[int, ...] = ()


class GraphSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One .onnx file. `bytes` and `sha256` are the file's; `weight_bytes` is what it refers to in the weights.

    `precision` is that of its large products; routers are fp32 in all of them. Every size has all its encoder widths
    and a head of every task in fp32; other precisions are there beside it. `adapter_rows` is how many leading rows an
    encoder reads of each tensor of a task's adapters: narrower ones read fewer.
    """

    file: str
    kind: Literal["encoder", "head"]
    size_hw: tuple[int, int]
    width: float
    task: str | None
    units: dict[str, int]
    bytes: int
    sha256: str
    weight_bytes: int
    parameters: int
    cost: Cost
    parity: Parity | None = None
    precision: str = FULL_PRECISION
    adapter_rows: tuple[int, ...] = ()


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured point. `trivial` is what the metric gives an answer that ignores the image.

    `size_hw` is None for the bundle's first size. `all_experts` is the value with every expert reachable, where the
    bundle's expert paths leave some out and it was measured beside.
    """

    task: str
    encoder_width: float
    top_k: int
    decoder_width: float
    metric: str
    higher_is_better: bool
    value: float
    ci_low: float | None
    ci_high: float | None
    trivial: float
    samples: int
    source: str
    precision: str = FULL_PRECISION
    size_hw: tuple[int, int] | None = None
    all_experts: float | None = None


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
        raise ManifestError(f"the manifest has no usable schema_version: {error}", hint=_EXPORT_AGAIN) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"the manifest is not JSON: {error}", hint=_EXPORT_AGAIN) from None
    if version not in READABLE_VERSIONS:
        readable = ", ".join(map(str, READABLE_VERSIONS))
        way_on = "upgrade slimpath" if version > SCHEMA_VERSION else "export the bundle again"
        raise ManifestError(f"schema_version {version} is not one that this build reads ({readable})", hint=way_on)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise ManifestError(
            f"the manifest does not fit schema_version {version}: {error}", hint=_EXPORT_AGAIN
        ) from None
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


_EXPORT_AGAIN = "copy or export the bundle again"
_SHA256 = re.compile(r"[0-9a-f]{64}")
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PRECISION = re.compile(r"[a-z][a-z0-9_-]{0,15}")


def is_pack(folder: Path) -> bool:
    """Whether a folder is a task pack, and no bundle."""
    return (folder / PACK_FILE).is_file() and not (folder / MANIFEST_FILE).exists()


def check_manifest(manifest: Manifest) -> None:
    """What must hold between the fields.

    Raises:
        ManifestError: naming the field, what it must be, and what it is.
    """
    for check in (
        _check_tasks,
        _check_sizes,
        _check_preprocessing,
        _check_encoder,
        _check_graphs,
        _check_accuracies,
        _check_gpu,
    ):
        check(manifest)
    _check_file("weights.file", manifest.weights.file)
    _check_sha256("weights.sha256", manifest.weights.sha256)
    _check_sha256("weights.header_sha256", manifest.weights.header_sha256)
    _require(manifest.weights.bytes > 8, "weights.bytes", "more than 8", manifest.weights.bytes)


def _check_tasks(manifest: Manifest) -> None:
    names = manifest.task_names
    _require(bool(names), "tasks", "at least one task", "none")
    for task in manifest.tasks:
        where = f"tasks[{task.name}]"
        _require(names.count(task.name) == 1, where, "listed once", names.count(task.name))
        _require(bool(TASK_NAME.fullmatch(task.name)), where, "named by letters, digits, _ and -", task.name)
        wanted = {"depth": 1, "probability": 1, "normals": 3}.get(task.kind, task.channels)
        _require(task.channels == wanted >= 1, f"{where}.channels", f"{max(wanted, 1)}", task.channels)
        if task.kind == "classes":
            _require(task.channels <= 256, f"{where}.channels", "at most 256 (ids are uint8)", task.channels)
        for field, values in (("classes", task.classes), ("palette", task.palette)):
            _require(
                not values or len(values) == task.channels, f"{where}.{field}", f"{task.channels} entries", len(values)
            )
        for colour in task.palette:
            _require(all(0 <= c <= 255 for c in colour), f"{where}.palette", "RGB from 0 to 255", colour)


def _check_sizes(manifest: Manifest) -> None:
    patch = manifest.encoder.patch
    _require(patch >= 1, "encoder.patch", "at least 1", patch)
    _require(bool(manifest.sizes), "sizes", "at least one size", "none")
    _require(len(set(manifest.sizes)) == len(manifest.sizes), "sizes", "without repeats", manifest.sizes)
    for height, width in manifest.sizes:
        fits = height > 0 and width > 0 and height % patch == 0 and width % patch == 0
        _require(fits, "sizes", f"multiples of the patch, {patch}", (height, width))
        _require(height <= 16384 and width <= 16384, "sizes", "at most 16384", (height, width))
    widths = manifest.widths
    _require(bool(widths), "widths", "at least one width", "none")
    _require(all(0 < w <= 1 for w in widths), "widths", "above 0, at most 1", widths)
    _require(list(widths) == sorted(set(widths)), "widths", "ascending", widths)


def _check_preprocessing(manifest: Manifest) -> None:
    given = manifest.preprocessing
    _require(all(map(math.isfinite, given.mean)), "preprocessing.mean", "finite", given.mean)
    _require(all(math.isfinite(s) and s > 0 for s in given.std), "preprocessing.std", "above 0", given.std)
    _require(all(0 <= c <= 255 for c in given.pad_rgb), "preprocessing.pad_rgb", "RGB from 0 to 255", given.pad_rgb)


def _check_encoder(manifest: Manifest) -> None:
    encoder = manifest.encoder
    for field in ("dim", "depth", "heads"):
        value = getattr(encoder, field)
        _require(value >= 1, f"encoder.{field}", "at least 1", value)
    _require(encoder.detail_channels >= 0, "encoder.detail_channels", "0 or more", encoder.detail_channels)
    for task, tensors in encoder.adapters.items():
        _require(task in manifest.task_names, f"encoder.adapters[{task}]", f"one of {manifest.task_names}", task)
        _require(bool(tensors), f"encoder.adapters[{task}]", "names of tensors", "none")
    adapted = sorted(encoder.adapters)
    _require(adapted in ([], sorted(manifest.task_names)), "encoder.adapters", "one entry per task or none", adapted)
    counts = {len(tensors) for tensors in encoder.adapters.values()}
    _require(len(counts) < 2, "encoder.adapters", "equally many tensors per task", sorted(counts))
    level_ok = all(stride >= 1 and dim >= 1 for stride, dim in encoder.levels)
    _require(level_ok, "encoder.levels", "pixels and channels of at least 1", encoder.levels)
    for name, blocks in (("taps", encoder.taps), ("moe_blocks", encoder.moe_blocks)):
        inside = all(0 <= b < encoder.depth for b in blocks) and list(blocks) == sorted(set(blocks))
        _require(inside, f"encoder.{name}", f"ascending, from 0 to {encoder.depth - 1}", blocks)
    blocks = encoder.moe_blocks
    if not blocks:
        _require(not encoder.routers, "encoder.routers", "empty without MoE blocks", sorted(encoder.routers))
        return
    _require(1 <= encoder.top_k <= encoder.experts, "encoder.top_k", f"1 to {encoder.experts} (experts)", encoder.top_k)
    names = sorted(encoder.routers)
    _require(names == sorted(manifest.task_names), "encoder.routers", "one entry per task", names)
    for name, router in encoder.routers.items():
        where = f"encoder.routers[{name}]"
        _require(len(router.weights) == len(blocks), f"{where}.weights", f"{len(blocks)} names", len(router.weights))
        _require(len(router.biases) in (0, len(blocks)), f"{where}.biases", f"{len(blocks)} names", len(router.biases))
        if router.paths is not None:
            _check_paths(f"{where}.paths", router.paths, encoder)


def _check_paths(where: str, paths: ExpertPaths, encoder: EncoderSpec) -> None:
    count = len(encoder.moe_blocks)
    _require(0 < paths.coverage <= 1, f"{where}.coverage", "above 0, at most 1", paths.coverage)
    _require(paths.images >= 1, f"{where}.images", "at least 1", paths.images)
    _require(len(paths.blocks) == count, f"{where}.blocks", f"{count} entries", len(paths.blocks))
    opened = len(paths.open_biases)
    _require(opened in (0, count), f"{where}.open_biases", f"{count} names", opened)
    for number, block in enumerate(paths.blocks):
        here, kept = f"{where}.blocks[{number}]", block.kept
        known = list(kept) == sorted(set(kept)) and all(0 <= expert < encoder.experts for expert in kept)
        _require(known, f"{here}.kept", f"ascending, from 0 to {encoder.experts - 1}", kept)
        _require(len(kept) >= encoder.top_k, f"{here}.kept", f"at least {encoder.top_k} (top_k) experts", kept)
        _require(len(block.mass) == encoder.experts, f"{here}.mass", f"{encoder.experts} shares", len(block.mass))
        shares = (*block.mass, block.covered, block.probability)
        _require(all(0 <= share <= 1 for share in shares), f"{here}.mass", "shares from 0 to 1", shares)
        if len(kept) < encoder.experts:
            _require(opened > 0, f"{where}.open_biases", "named, as experts are left out", "none")


def _check_graphs(manifest: Manifest) -> None:
    seen: set[object] = set()
    files: set[str] = {MANIFEST_FILE, manifest.weights.file}
    for number, graph in enumerate(manifest.graphs):
        where = f"graphs[{number}]"
        _check_file(f"{where}.file", graph.file)
        _require(graph.file not in files, f"{where}.file", "a file of its own", graph.file)
        _check_sha256(f"{where}.sha256", graph.sha256)
        _require(graph.size_hw in manifest.sizes, f"{where}.size_hw", f"one of {manifest.sizes}", graph.size_hw)
        _require(0 < graph.width <= 1, f"{where}.width", "above 0, at most 1", graph.width)
        if graph.kind == "encoder":
            _require(graph.task is None, f"{where}.task", "null for an encoder", graph.task)
            _require(graph.width in manifest.widths, f"{where}.width", f"one of {manifest.widths}", graph.width)
            count = len(next(iter(manifest.encoder.adapters.values()), ()))
            rows_ok = len(graph.adapter_rows) == count and all(rows >= 1 for rows in graph.adapter_rows)
            _require(rows_ok, f"{where}.adapter_rows", f"{count} numbers above 0", graph.adapter_rows)
        else:
            _require(graph.task in manifest.task_names, f"{where}.task", f"one of {manifest.task_names}", graph.task)
        for field in ("bytes", "weight_bytes", "parameters"):
            _require(getattr(graph, field) >= 0, f"{where}.{field}", "0 or more", getattr(graph, field))
        costs = msgspec.structs.astuple(graph.cost)
        _require(all(cost >= 0 for cost in costs), f"{where}.cost", "0 or more", costs)
        _check_precision(f"{where}.precision", graph.precision)
        key = (graph.kind, graph.size_hw, graph.width, graph.task, graph.precision)
        _require(key not in seen, where, "one graph per kind, size, width, task and precision", key)
        seen.add(key)
        files.add(graph.file)
    for size_hw in manifest.sizes:
        here = [graph for graph in manifest.graphs if graph.size_hw == size_hw and graph.precision == FULL_PRECISION]
        found = tuple(sorted(graph.width for graph in here if graph.kind == "encoder"))
        _require(found == manifest.widths, f"graphs at {size_hw}", f"encoders of widths {manifest.widths}", found)
        heads = {graph.task for graph in here if graph.kind == "head"}
        missing = [task for task in manifest.task_names if task not in heads]
        _require(not missing, f"graphs at {size_hw}", "a head for every task", f"none for {', '.join(missing)}")


def _check_accuracies(manifest: Manifest) -> None:
    for number, accuracy in enumerate(manifest.accuracies):
        where = f"accuracies[{number}]"
        _require(accuracy.task in manifest.task_names, f"{where}.task", f"one of {manifest.task_names}", accuracy.task)
        size_hw = accuracy.size_hw
        known = size_hw is None or size_hw in manifest.sizes
        _require(known, f"{where}.size_hw", f"null or one of {manifest.sizes}", size_hw)
        _check_precision(f"{where}.precision", accuracy.precision)
        for field in ("value", "trivial", "all_experts"):
            value = getattr(accuracy, field)
            _require(value is None or math.isfinite(value), f"{where}.{field}", "finite", value)


def _check_gpu(manifest: Manifest) -> None:
    if manifest.gpu is None:
        return
    gpu, taken = manifest.gpu, {MANIFEST_FILE, manifest.weights.file, *(graph.file for graph in manifest.graphs)}
    problem = gpu_problem(
        gpu, sizes=manifest.sizes, tasks=manifest.task_names, top_k=manifest.encoder.top_k, taken=taken
    )
    if problem is not None:
        _require(False, *problem)
    for name, digest in ((gpu.weights.file, gpu.weights.sha256), *((graph.file, graph.sha256) for graph in gpu.graphs)):
        _check_file("gpu.graphs.file", name)
        _check_sha256("gpu.graphs.sha256", digest)
    _check_sha256("gpu.weights.header_sha256", gpu.weights.header_sha256)


def _check_file(where: str, name: str) -> None:
    # Bare names only: a bundle is flat, and no name in it may lead anywhere else, on any system.
    bare = bool(name) and not any(c in name for c in "/\\:\0") and name not in (".", "..") and len(name) <= 255
    _require(bare, where, "a bare file name", name)


def _check_precision(where: str, name: str) -> None:
    _require(bool(_PRECISION.fullmatch(name)), where, 'a short name such as "int8"', name)


def _check_sha256(where: str, digest: str) -> None:
    _require(bool(_SHA256.fullmatch(digest)), where, "64 lower-case hex digits", digest)


def _require(holds: bool, where: str, expected: str, got: object) -> None:
    if not holds:
        raise ManifestError(f"the manifest's {where} must be {expected}, got {got!r}", hint=_EXPORT_AGAIN)
