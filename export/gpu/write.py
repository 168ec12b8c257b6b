"""A bundle with graphs for GPUs: a new bundle, as no bundle ever changes; its other files are those of the old one."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx_ir as ir

from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.gpu_spec import GPU_PRECISIONS, GpuAgreement, GpuGraphSpec, GpuPort, GpuSpec
from ...runtime.bundles.graph_spec import FULL_PRECISION
from ...runtime.bundles.manifest import MANIFEST_FILE, Manifest, encode_manifest
from ...runtime.bundles.manifest_parts import WeightsSpec
from .. import describe, slim
from ..coverage import Calibration
from ..errors import ExportError, GraphBuildError, TargetExistsError
from ..reload import model_from_bundle
from ..report import Progress, no_progress
from .calibrate import Calibrator
from .check import onnxruntime_run
from .configurations import checked_batches, chosen_configurations, default_batches, pareto_configurations
from .lint import lint_file
from .precision import to_float16
from .quantize import activation_ranges, quantise
from .trace import Job, trace_job
from .verify import Verifier
from .weights import GpuTensors, port_shapes, refer_to_gpu_weights

_DTYPES = {ir.DataType.FLOAT: "float32", ir.DataType.INT32: "int32"}
DEFAULT_PRECISIONS = ("fp16",)


@dataclass(frozen=True)
class GpuReport:
    """What was written: `worst_error` is that of the float32 graphs, None where nothing was checked."""

    path: Path
    graphs: int
    weights_bytes: int
    configurations: tuple[tuple[float, int], ...]
    source: str
    worst_error: float | None
    agreements: tuple[GpuAgreement, ...]


def add_gpu_graphs(
    bundle: Bundle,
    out: Path,
    *,
    precisions: Sequence[str] = DEFAULT_PRECISIONS,
    configurations: Sequence[tuple[float, int]] | None = None,
    batches: Sequence[tuple[int, int]] | None = None,
    calibration: Calibration | None = None,
    check: bool = True,
    progress: Progress = no_progress,
) -> GpuReport:
    """Write the bundle again, with graphs for GPUs beside its own; the folder appears whole or not at all.

    Args:
        precisions: of the graphs: fp32, fp16 (routers, norms and softmax in fp32), int8 (quantised products, the rest
            as in fp16).
        configurations: (encoder width, top-k) of the encoders; some of the Pareto set by default.
        batches: (images, rows) that encoders take; one image with one task and with all by default.
        calibration: pictures that int8 takes the ranges of activations from; only int8 needs them.
        check: run every graph in ONNX Runtime and compare it with the network: in fp32 value by value, also where fp32
            is not kept; below by the answers of the tasks.

    Raises:
        TargetExistsError: `out` exists.
        ExportError: precisions, configurations or batches that the model cannot have.
        GraphBuildError: TensorRT would refuse a graph.
        ParityError: a graph differs from the network by more than its precision may (nothing is left behind).
    """
    check_free(out)
    manifest = bundle.manifest
    wanted = tuple(precision for precision in GPU_PRECISIONS if precision in precisions)
    if not wanted or set(precisions) - set(GPU_PRECISIONS):
        raise ExportError(f"precisions must be some of {', '.join(GPU_PRECISIONS)}, got {', '.join(precisions)}")
    if "int8" in wanted and (calibration is None or not len(calibration.images)):
        raise ExportError("int8 needs calibration pictures, got none")
    chosen, source = (
        pareto_configurations(manifest) if configurations is None else chosen_configurations(manifest, configurations)
    )
    shapes = checked_batches(manifest, batches or default_batches(manifest))
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        writer = _Writer(bundle, folder, wanted, calibration, check, progress)
        spec = writer.write(chosen, shapes, source)
        for name in msgspec.structs.replace(manifest, gpu=None).files:
            _link(bundle.path / name, folder / name)
        data = encode_manifest(msgspec.structs.replace(manifest, gpu=spec))
        (folder / MANIFEST_FILE).write_bytes(data)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return GpuReport(out, len(spec.graphs), spec.weights.bytes, chosen, source, writer.worst_error, spec.agreements)


def check_free(out: Path) -> None:
    """Refuse a place that is taken, before anything is made.

    Raises:
        TargetExistsError: `out` exists.
    """
    if out.exists() or out.is_symlink():
        raise TargetExistsError(f"{out} exists; a bundle never changes once written: remove it or choose another place")


class _Writer:
    """Traces every graph once, derives its precisions, writes weights and files, and has them checked."""

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        precisions: tuple[str, ...],
        calibration: Calibration | None,
        check: bool,
        progress: Progress,
    ) -> None:
        self._manifest, self._folder, self._precisions, self._progress = bundle.manifest, folder, precisions, progress
        self._models = {size: model_from_bundle(bundle, size)[0] for size in bundle.manifest.sizes}
        self._verifier = Verifier(self._models, bundle.manifest, folder) if check else None
        self._calibrators = {
            size: Calibrator(model, calibration, bundle.manifest.preprocessing, size)
            for size, model in self._models.items()
            if calibration is not None and "int8" in precisions
        }
        self.worst_error: float | None = None

    def write(
        self, configurations: tuple[tuple[float, int], ...], batches: tuple[tuple[int, int], ...], source: str
    ) -> GpuSpec:
        jobs = list(_jobs(self._manifest, configurations, batches))
        tensors, made = GpuTensors(), []
        # The widest first: the others are views of its weights.
        for done, job in enumerate(sorted(jobs, key=lambda job: (-job.width, job.task is not None))):
            self._progress(job.file(""), done, len(jobs))
            made += self._make(job, tensors)
        weights = tensors.write(self._folder)
        specs = []
        for job, precision, graph in made:
            referred = refer_to_gpu_weights(graph, weights)
            path = self._folder / job.file(precision)
            slim.strip(graph)
            slim.save(graph, path)
            _lint(path)
            specs.append(self._describe(job, precision, graph, path, referred))
        agreements: tuple[GpuAgreement, ...] = ()
        if self._verifier is not None:
            self._progress("comparing answers", len(jobs), len(jobs))
            specs, agreements = self._verifier.judge(specs)
            errors = [spec.parity.max_abs_error for spec in specs if spec.parity and spec.precision == "fp32"]
            self.worst_error = max((*errors, *self._verifier.errors), default=None)
        found = WeightsSpec(weights.path.name, weights.size_bytes, weights.sha256, weights.header_sha256)
        specs.sort(key=lambda spec: spec.file)
        return GpuSpec(found, configurations, batches, self._precisions, tuple(specs), source, agreements)

    def _make(self, job: Job, tensors: GpuTensors) -> Iterator[tuple[Job, str, ir.Model]]:
        base = trace_job(self._models[job.size_hw], job)
        if self._verifier is not None:
            self._verifier.check_base(job, base)
        for precision in self._precisions:
            graph = base.clone() if precision != self._precisions[-1] else base
            if precision == "int8":
                calibrator = self._calibrators[job.size_hw]
                ranges = activation_ranges(graph, calibrator.feeds(job), self._folder, onnxruntime_run)
                quantise(graph, ranges, calibrator.full)
            if precision != "fp32":
                to_float16(graph)
            tensors.collect(graph, job.size_hw)
            yield job, precision, graph

    def _describe(self, job: Job, precision: str, graph: ir.Model, path: Path, referred: int) -> GpuGraphSpec:
        model, data = self._models[job.size_hw], path.read_bytes()
        cost, _ = describe.graph_cost(model, job.task, job.width)
        per_row = cost.flops_row + job.top_k * cost.flops_row_per_expert
        return GpuGraphSpec(
            file=path.name,
            kind="encoder" if job.task is None else "head",
            size_hw=job.size_hw,
            width=job.width,
            top_k=job.top_k,
            task=job.task,
            images=job.images,
            rows=job.rows,
            precision=precision,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            weight_bytes=referred,
            flops=job.images * cost.flops_image + job.rows * per_row,
            inputs=_ports(graph.graph.inputs),
            outputs=_ports(graph.graph.outputs),
            adapter_rows=describe.adapter_rows(model, job.width) if job.task is None else (),
        )


def _jobs(
    manifest: Manifest, configurations: tuple[tuple[float, int], ...], batches: tuple[tuple[int, int], ...]
) -> Iterator[Job]:
    for size in manifest.sizes:
        for width, top_k in configurations:
            for images, rows in batches:
                yield Job(size, width, top_k, None, images, rows)
    heads = [graph for graph in manifest.graphs if graph.kind == "head" and graph.precision == FULL_PRECISION]
    for graph in heads:
        for rows in sorted({1, *(images for images, _ in batches)}):
            yield Job(graph.size_hw, graph.width, 0, graph.task, rows, rows)


def _lint(path: Path) -> None:
    findings = lint_file(path)
    if findings:
        raise GraphBuildError(f"{findings[0]}; {len(findings) - 1} more like it")


def _ports(values: Sequence[ir.Value]) -> tuple[GpuPort, ...]:
    types = {str(value.name): _DTYPES[value.dtype] for value in values}  # type: ignore[index]
    return tuple(GpuPort(name, types[name], shape) for name, shape in port_shapes(values))  # type: ignore[arg-type]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
