"""Checkpoint to bundle: one weights file, an encoder graph per (size, width), a head graph per (task, size, width)."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..models import MultiTaskModel, load_checkpoint
from ..models.fold import folded
from ..models.swin import same_windows
from ..models.swin_config import SwinConfig
from ..runtime.bundles.encoder_spec import ExpertPaths
from ..runtime.bundles.graph_spec import GraphSpec
from ..runtime.bundles.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest, encode_manifest
from ..runtime.bundles.manifest_parts import WeightsSpec
from . import coverage, describe, parity
from .bundle_graphs import jobs_of, write_graph
from .coverage import Calibration
from .errors import ExportError, TargetExistsError
from .int8 import int8_weights, stored_tensors
from .report import ExportReport, Progress, no_progress
from .weights import WEIGHTS_FILE, WeightsFile, bundle_tensors


def export_bundle(
    checkpoint: Path | str,
    out: Path | str,
    *,
    sizes: list[tuple[int, int]] | None = None,
    widths: list[float] | None = None,
    check: bool = True,
    name: str | None = None,
    calibration: Calibration | None = None,
    expert_coverage: float = 1.0,
    int8: bool = False,
    progress: Progress = no_progress,
) -> ExportReport:
    """Write the bundle of a checkpoint; the folder appears whole or not at all.

    Args:
        sizes: Input sizes (height, width); the size that the model was trained at by default.
        widths: Encoder and decoder widths; the model's by default.
        check: Run every graph in ONNX Runtime against the network and store the result.
        calibration: Pictures on which the routers are watched; what each expert gets is stored in the manifest.
        expert_coverage: Share of the router mass of these pictures that every task keeps in every MoE block; it can
            reach no other experts than the fewest that have it. Below 1 it needs `calibration`.
        int8: Also write every encoder with its large products in int8.

    Raises:
        TargetExistsError: `out` exists.
        ExportError: sizes or widths that the model cannot have, or a coverage without experts or pictures.
        ParityError: a graph differs from the network (nothing is left behind).
    """
    model, metadata = load_checkpoint(checkpoint)
    return export_model(
        model,
        metadata,
        Path(out),
        sizes=sizes,
        widths=widths,
        check=check,
        name=name or Path(checkpoint).stem,
        calibration=calibration,
        expert_coverage=expert_coverage,
        int8=int8,
        progress=progress,
    )


def export_model(
    model: MultiTaskModel,
    metadata: dict[str, Any],
    out: Path,
    *,
    sizes: list[tuple[int, int]] | None = None,
    widths: list[float] | None = None,
    check: bool = True,
    name: str = "model",
    calibration: Calibration | None = None,
    expert_coverage: float = 1.0,
    int8: bool = False,
    progress: Progress = no_progress,
) -> ExportReport:
    """`export_bundle` for a model in memory; `metadata` is what a checkpoint carries beside the weights."""
    if out.exists() or out.is_symlink():
        raise TargetExistsError(f"{out} exists; a bundle never changes once written: remove it or choose another place")
    model = folded(model.eval())
    sizes = _checked_sizes(model, sizes)
    check_widths(model, widths)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        paths = coverage.find_expert_paths(
            model,
            calibration,
            expert_coverage,
            describe.preprocessing(metadata),
            sizes=sizes,
            widths=describe.encoder_widths(model.config, widths),
            progress=progress,
        )
        manifest = _write(model, metadata, folder, sizes, widths, check, name, progress, paths, int8)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    errors = [graph.parity.max_abs_error for graph in manifest.graphs if graph.parity is not None]
    size = sum(file.stat().st_size for file in out.iterdir())
    kept = {task: tuple(len(block.kept) for block in path.blocks) for task, path in paths.items()}
    return ExportReport(out, size, manifest.weights.bytes, len(manifest.graphs), max(errors, default=None), True, kept)


def _write(
    model: MultiTaskModel,
    metadata: dict[str, Any],
    folder: Path,
    sizes: list[tuple[int, int]],
    widths: list[float] | None,
    check: bool,
    name: str,
    progress: Progress,
    paths: dict[str, ExpertPaths],
    int8: bool,
) -> Manifest:
    config = model.config
    open_biases = coverage.open_bias_tensors(model, paths)
    model = coverage.restrict_routers(model, paths) if open_biases else model
    tensors = bundle_tensors(model, sizes) | open_biases
    quantised = int8_weights(tensors) if int8 else {}
    tensors |= stored_tensors(quantised) if int8 else {}
    weights = WeightsFile.write(folder / WEIGHTS_FILE, tensors)
    encoder_widths = describe.encoder_widths(config, widths)
    jobs = list(jobs_of(model, sizes, encoder_widths, widths))
    graphs: list[GraphSpec] = []
    sized = {size: model if size == config.image_hw else model.resized(size) for size in sizes}
    # What every head is checked on: real tokens of every task, computed once per size.
    cases = {size: parity.encoder_case(sized[size], 1.0, parity.default_rows(model)) for size in sizes if check}
    for done, job in enumerate(jobs):
        progress(job.file, done, len(jobs))
        graphs += write_graph(sized[job.size_hw], job, weights, folder, cases.get(job.size_hw), quantised)
    progress("manifest", len(jobs), len(jobs))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        family=config.family,
        slimpath_version=__version__,
        licence=str(metadata.get("licence", "unknown")),
        tasks=describe.task_specs(config, metadata),
        preprocessing=describe.preprocessing(metadata),
        encoder=describe.encoder_spec(model, paths),
        sizes=tuple(sizes),
        widths=encoder_widths,
        graphs=tuple(graphs),
        weights=WeightsSpec(WEIGHTS_FILE, weights.size_bytes, weights.sha256, weights.header_sha256),
        model=config.to_dict(),
        provenance=metadata.get("provenance", {}),
    )
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    return manifest


def _checked_sizes(model: MultiTaskModel, sizes: list[tuple[int, int]] | None) -> list[tuple[int, int]]:
    patch = model.config.patch
    chosen = list(dict.fromkeys(sizes or [model.config.image_hw]))
    if isinstance(model.config, SwinConfig):
        for size in chosen:
            if not same_windows(model.config, replace(model.config, image_hw=size)):
                raise ExportError(f"{size[0]}x{size[1]} would need windows of another size than the model's")
        return chosen
    for height, width in chosen:
        if height < patch or width < patch or height % patch or width % patch:
            raise ExportError(f"a size must be multiples of the patch, {patch}, got {height}x{width}")
    return chosen


def check_widths(model: MultiTaskModel, widths: list[float] | None) -> None:
    """A network that was never trained narrower (a converted one) is offered at full width only."""
    narrower = [width for width in widths or () if width < 1]
    if narrower and model.config.widths == (1.0,):
        raise ExportError(
            f"this model was trained at full width only, got width {narrower[0]:g}; leave the widths out, "
            "or make it slimmable first: `slimpath adapt`"
        )
