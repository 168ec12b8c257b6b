"""A task that a network learned after its bundle was made -> a task pack: its own tensors and heads, nothing else."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from torch import nn

from .. import __version__
from ..models import MultiTaskModel
from ..runtime.bundles import graph_names as names
from ..runtime.bundles.accuracy import Accuracy
from ..runtime.bundles.bundle import Bundle
from ..runtime.bundles.graph_spec import GraphSpec
from ..runtime.bundles.manifest import PACK_FILE
from ..runtime.bundles.manifest_parts import Parity, WeightsSpec
from ..runtime.packs.manifest import (
    PACK_VERSION,
    AddedParameters,
    PackBase,
    PackManifest,
    base_sha256,
    encode_pack_manifest,
)
from ..runtime.packs.pack import Pack
from ..runtime.tasks import TaskSpec
from . import describe, parity, slim
from .errors import ExportError, ParityError, TargetExistsError
from .graphs import trace_head
from .report import Progress, no_progress
from .weights import WEIGHTS_FILE, WeightsFile

#: Measures a pack that was written, before anybody else sees it.
Measure = Callable[[Pack], Iterable[Accuracy]]


@dataclass(frozen=True)
class PackReport:
    """What was written; `worst_error` is the largest difference of a head from the network."""

    path: Path
    size_bytes: int
    parameters: AddedParameters
    worst_error: float


def check_pack_target(out: Path) -> None:
    """Refuse a place that is taken, before anything is trained.

    Raises:
        TargetExistsError: `out` exists.
    """
    if out.exists() or out.is_symlink():
        raise TargetExistsError(f"{out} exists; a pack never changes once written: remove it or choose another place")


def export_pack(
    model: MultiTaskModel,
    base: Bundle,
    out: Path,
    *,
    spec: TaskSpec,
    licence: str = "unknown",
    provenance: dict[str, object] | None = None,
    measure: Measure | None = None,
    progress: Progress = no_progress,
) -> PackReport:
    """Write the pack of the task `spec.name`; the folder appears whole or not at all.

    Args:
        model: the network of `base` with that task beside its own.
        base: a head is made for each of its sizes.
        measure: gives the accuracies that are stored.

    Raises:
        TargetExistsError: `out` exists.
        ExportError: the task is not what the network has.
        ParityError: a head differs from the network (nothing is left behind).
    """
    check_pack_target(out)
    head = model.config.task(spec.name)
    if (head.kind, head.channels) != (spec.kind, spec.channels):
        raise ExportError(
            f"task '{spec.name}' is described as {spec.kind} with {spec.channels} channels, "
            f"but the network has {head.kind} with {head.channels}"
        )
    if head.decoder == "taskexpert":
        raise ExportError(
            f"task '{spec.name}' has a taskexpert decoder, whose experts are the base's; a pack brings a native one"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        manifest = _write(model.eval(), base, folder, spec, licence, provenance or {}, progress)
        if measure is not None:
            manifest = msgspec.structs.replace(manifest, accuracies=tuple(measure(Pack.open(folder))))
            (folder / PACK_FILE).write_bytes(encode_pack_manifest(manifest))
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size = sum(file.stat().st_size for file in out.iterdir())
    worst = max(graph.parity.max_abs_error for graph in manifest.graphs if graph.parity is not None)
    return PackReport(out, size, manifest.parameters, worst)


def _write(
    model: MultiTaskModel,
    base: Bundle,
    folder: Path,
    spec: TaskSpec,
    licence: str,
    provenance: dict[str, object],
    progress: Progress,
) -> PackManifest:
    task, encoder = spec.name, describe.encoder_spec(model)
    prefixes = tuple(f"{part}.{task}." for part in ("routers", "adapters", "heads"))
    state = {name: value.detach().float().contiguous() for name, value in model.state_dict().items()}
    weights = WeightsFile.write(
        folder / WEIGHTS_FILE, {name: value for name, value in state.items() if name.startswith(prefixes)}
    )
    widths = describe.head_widths(model.config, model.config.task(task), list(base.manifest.widths))
    jobs = [(size_hw, width) for size_hw in base.manifest.sizes for width in widths]
    graphs: list[GraphSpec] = []
    for size_hw in base.manifest.sizes:
        sized = model if size_hw == model.config.image_hw else model.resized(size_hw)
        case = parity.encoder_case(sized, 1.0, _rows(sized, task))
        for width in widths:
            progress(f"head-{task} {size_hw[0]}x{size_hw[1]} {width:g}", len(graphs), len(jobs))
            graphs.append(_write_head(sized, task, width, weights, folder, case))
    manifest = PackManifest(
        pack_version=PACK_VERSION,
        slimpath_version=__version__,
        licence=licence,
        base=PackBase(base.manifest.name, base_sha256(base.manifest)),
        task=spec,
        graphs=tuple(graphs),
        weights=WeightsSpec(WEIGHTS_FILE, weights.size_bytes, weights.sha256, weights.header_sha256),
        parameters=added_parameters(model, task),
        router=encoder.routers.get(task),
        adapters=encoder.adapters.get(task, ()),
        provenance=provenance,
    )
    (folder / PACK_FILE).write_bytes(encode_pack_manifest(manifest))
    return manifest


def _rows(model: MultiTaskModel, task: str) -> list[tuple[str, int]]:
    """The task with one expert a token and with all."""
    return [(task, 1), (task, model.config.top_k)] if model.config.moe_blocks else [(task, 1)]


def _write_head(
    model: MultiTaskModel, task: str, width: float, weights: WeightsFile, folder: Path, case: parity.EncoderCase
) -> GraphSpec:
    size_hw = model.config.image_hw
    traced = trace_head(model, task, width)
    referred = slim.refer_to_weights(traced, weights, size_hw)
    slim.strip(traced)
    path = folder / f"head-{task}-{size_hw[0]}x{size_hw[1]}-w{width:g}.onnx"
    slim.save(traced, path)
    cost, parameters = describe.graph_cost(model, task, width)
    return GraphSpec(
        file=path.name,
        kind="head",
        size_hw=size_hw,
        width=width,
        task=task,
        units=describe.head_units(model.config, model.config.task(task), width),
        bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        weight_bytes=referred,
        parameters=parameters,
        cost=cost,
        parity=_check(model, task, width, path, case),
    )


def _check(model: MultiTaskModel, task: str, width: float, path: Path, case: parity.EncoderCase) -> Parity:
    inputs = parity.head_case(model, task, case)
    levels = tuple(value for name, value in inputs.items() if name not in (names.TOKENS, names.DETAIL))
    reference = parity.head_reference(model, task, width, inputs[names.TOKENS], inputs.get(names.DETAIL), levels)
    answers = parity.onnxruntime_runner(path)({name: value.numpy() for name, value in inputs.items()})
    result = parity.compare(answers, [reference], seed=case.seed, min_gap=case.min_gap)
    if not result.passed:
        raise ParityError(
            f"{path.name} differs from the network by {result.max_abs_error:.2e}, "
            f"allowed {result.tolerance * max(1.0, result.max_abs_reference):.2e}"
        )
    return result


def added_parameters(model: MultiTaskModel, task: str) -> AddedParameters:
    """Numbers that a task of the network has for itself, and those of the network without it."""
    router, adapters, head = (
        _count(group[task]) if task in group else 0  # type: ignore[operator]  # ModuleDicts, all three
        for group in (model.routers, model.adapters, model.heads)
    )
    return AddedParameters(router, adapters, head, _count(model) - router - adapters - head)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
