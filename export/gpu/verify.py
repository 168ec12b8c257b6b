"""Every graph of an export, held against the network; see `check.py` for how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir

from ...models import MultiTaskModel
from ...runtime.bundles.gpu_spec import GpuAgreement, GpuGraphSpec
from ...runtime.bundles.manifest import Manifest
from ...runtime.bundles.manifest_parts import Parity
from ...runtime.profiling.agreement import room_planes
from .. import parity
from ..errors import ParityError
from . import check
from .trace import Job

Size = tuple[int, int]
_BASE_FILE, _BASE_DATA = "base.onnx", "base.data"  # of a float32 graph that is only checked


@dataclass
class _Room:
    """What every graph of a size is compared on."""

    model: MultiTaskModel
    pictures: check.Pictures
    head_widths: dict[str, tuple[float, ...]]
    references: dict[tuple[float, int], dict[str, np.ndarray]] = field(default_factory=dict)

    @cached_property
    def case(self) -> parity.EncoderCase:
        """Real tokens of every task at full width, for heads."""
        return parity.encoder_case(self.model, 1.0, parity.default_rows(self.model))

    def decoder_widths(self, width: float) -> dict[str, float]:
        """The decoder width nearest to an encoder width, by task."""
        return {
            task: min(widths, key=lambda one: (abs(one - width), -one)) for task, widths in self.head_widths.items()
        }

    def reference(self, width: float, top_k: int) -> dict[str, np.ndarray]:
        """The network's answers in float32."""
        key = width, top_k
        if key not in self.references:
            widths = self.decoder_widths(width)
            self.references[key] = check.network_answers(self.model, self.pictures, width, top_k, widths)
        return self.references[key]


class Verifier:
    """Checks graphs in float32 as they are made, and what was written when all of it is there.

    Args:
        errors: largest differences of the float32 graphs that were checked on the way.
    """

    def __init__(self, models: Mapping[Size, MultiTaskModel], manifest: Manifest, folder: Path) -> None:
        widths = {
            task: tuple(sorted({graph.width for graph in manifest.graphs if graph.task == task}))
            for task in manifest.task_names
        }
        self._rooms = {
            size: _Room(model, check.Pictures(room_planes(manifest.preprocessing, size)), widths)
            for size, model in models.items()
        }
        self._folder = folder
        self.errors: list[float] = []

    def check_base(self, job: Job, graph: ir.Model) -> None:
        """The float32 graph that every precision is derived from.

        Raises:
            ParityError: it is not what the network computes.
        """
        path = self._folder / _BASE_FILE
        ir.save(graph, str(path), external_data=_BASE_DATA)
        try:
            found = self._parity(job, check.onnxruntime_run(str(path)), "fp32", job.file("fp32"))
            self.errors.append(found.max_abs_error)
        finally:
            path.unlink(missing_ok=True)
            (self._folder / _BASE_DATA).unlink(missing_ok=True)

    def judge(self, specs: list[GpuGraphSpec]) -> tuple[list[GpuGraphSpec], tuple[GpuAgreement, ...]]:
        """Check the files that were written; the specs with what was found, and how far the tasks' answers agree.

        Raises:
            ParityError: a graph differs by more than its precision may.
        """
        judged, agreements = [], []
        runs: dict[tuple[Size, str, str, float], check.Run] = {}
        for spec in specs:
            if spec.kind == "encoder" and spec.precision != "fp32":
                judged.append(spec)
                continue
            run = check.onnxruntime_run(str(self._folder / spec.file))
            found = self._parity(_job(spec), run, spec.precision, spec.file)
            judged.append(msgspec.structs.replace(spec, parity=found))
            if spec.task is not None and spec.rows == 1:
                runs[spec.size_hw, spec.precision, spec.task, spec.width] = run
        for spec in specs:
            if spec.kind == "encoder" and spec.precision != "fp32":
                agreements += self._agreements(spec, runs)
        return judged, _worst(agreements)

    def _parity(self, job: Job, run: check.Run, precision: str, file: str) -> Parity:
        room = self._rooms[job.size_hw]
        if job.task is None:
            found = check.encoder_parity(room.model, job, run)
        else:
            found = check.head_parity(room.model, job, run, room.case, precision)
        if not found.passed:
            allowed = found.tolerance * max(1.0, found.max_abs_reference)
            raise ParityError(f"{file} differs from the network by {found.max_abs_error:.2e}, allowed {allowed:.2e}")
        return found

    def _agreements(
        self, spec: GpuGraphSpec, runs: Mapping[tuple[Size, str, str, float], check.Run]
    ) -> list[GpuAgreement]:
        room = self._rooms[spec.size_hw]
        widths = room.decoder_widths(spec.width)
        heads = {task: runs[spec.size_hw, spec.precision, task, width] for task, width in widths.items()}
        encoder = check.onnxruntime_run(str(self._folder / spec.file))
        answers = check.graph_answers(room.model, room.pictures, _job(spec), encoder, heads)
        found = []
        for task, reference in room.reference(spec.width, spec.top_k).items():
            kind = room.model.config.task(task).kind
            seen = check.agreement(kind, answers[task], reference, spec.precision)
            if not seen.passed:
                raise ParityError(f"{spec.file}: the answers of '{task}' are too far from those in fp32: {seen}")
            where = (task, spec.size_hw, spec.width, spec.top_k, widths[task], spec.precision)
            found.append(GpuAgreement(*where, *msgspec.structs.astuple(seen)))
        return found


def _job(spec: GpuGraphSpec) -> Job:
    return Job(spec.size_hw, spec.width, spec.top_k, spec.task, spec.images, spec.rows)


def _worst(agreements: list[GpuAgreement]) -> tuple[GpuAgreement, ...]:
    """Of the batches of a configuration, the one that agrees least."""
    kept: dict[tuple[object, ...], GpuAgreement] = {}
    for one in agreements:
        key = one.task, one.size_hw, one.width, one.top_k, one.decoder_width, one.precision
        value, known = one.value or 0.0, kept.get(key)
        worse = known is None or (value > (known.value or 0.0) if one.at_most else value < (known.value or 0.0))
        kept[key] = one if worse else kept[key]
    return tuple(kept.values())
