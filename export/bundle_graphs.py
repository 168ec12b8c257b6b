"""The graphs of a bundle: which there are, each traced, written, and compared with the network."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..models import MultiTaskModel
from ..runtime.bundles import graph_names as names
from ..runtime.bundles.graph_spec import GraphSpec
from ..runtime.bundles.manifest_parts import Parity
from . import describe, parity, slim
from .errors import ParityError
from .graphs import encoder_answers, trace_encoder, trace_head
from .int8 import Int8Weight
from .int8_bundle import write_int8_encoder
from .weights import WeightsFile


@dataclass(frozen=True)
class Job:
    """One graph to make."""

    size_hw: tuple[int, int]
    width: float
    task: str | None

    @property
    def file(self) -> str:
        size = f"{self.size_hw[0]}x{self.size_hw[1]}-w{self.width:g}"
        return f"encoder-{size}.onnx" if self.task is None else f"head-{self.task}-{size}.onnx"


def jobs_of(
    model: MultiTaskModel, sizes: list[tuple[int, int]], encoder_widths: tuple[float, ...], widths: list[float] | None
) -> Iterator[Job]:
    for size in sizes:
        for width in encoder_widths:
            yield Job(size, width, None)
        for head in model.config.tasks:
            for width in describe.head_widths(model.config, head, widths):
                yield Job(size, width, head.name)


def write_graph(
    model: MultiTaskModel,
    job: Job,
    weights: WeightsFile,
    folder: Path,
    case: parity.EncoderCase | None,
    int8: dict[str, Int8Weight],
) -> Iterator[GraphSpec]:
    """The graph in fp32 and, if there are int8 weights and it is an encoder, in int8."""
    traced = trace_encoder(model, job.width) if job.task is None else trace_head(model, job.task, job.width)
    referred = slim.refer_to_weights(traced, weights, job.size_hw)
    slim.strip(traced)
    path = folder / job.file
    slim.save(traced, path)
    cost, parameters = describe.graph_cost(model, job.task, job.width)
    config = model.config
    fp32 = GraphSpec(
        file=job.file,
        kind="encoder" if job.task is None else "head",
        size_hw=job.size_hw,
        width=job.width,
        task=job.task,
        units=describe.encoder_units(config, job.width)
        if job.task is None
        else describe.head_units(config, config.task(job.task), job.width),
        bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        weight_bytes=referred,
        parameters=parameters,
        cost=cost,
        parity=_check_graph(model, job, path, case) if case is not None else None,
        adapter_rows=describe.adapter_rows(model, job.width) if job.task is None else (),
    )
    yield fp32
    if int8 and job.task is None:
        yield write_int8_encoder(traced, fp32, int8, weights, model=model, check=case is not None)


def _check_graph(model: MultiTaskModel, job: Job, path: Path, head_case: parity.EncoderCase) -> Parity:
    run = parity.onnxruntime_runner(path)
    result = _check_encoder(model, job, run) if job.task is None else _check_head(head_case, model, job, run)
    if not result.passed:
        raise ParityError(
            f"{job.file} differs from the network by {result.max_abs_error:.2e}, "
            f"allowed {result.tolerance * max(1.0, result.max_abs_reference):.2e}"
        )
    return result


def _check_encoder(model: MultiTaskModel, job: Job, run: parity.Run) -> Parity:
    case = parity.encoder_case(model, job.width, parity.default_rows(model))
    references = list(encoder_answers(case.features).values())
    answers = run({name: value.numpy() for name, value in case.inputs.items()})
    return parity.compare(answers, references, seed=case.seed, min_gap=case.min_gap)


def _check_head(case: parity.EncoderCase, model: MultiTaskModel, job: Job, run: parity.Run) -> Parity:
    assert job.task is not None
    inputs = parity.head_case(model, job.task, case)
    levels = tuple(value for name, value in inputs.items() if name not in (names.TOKENS, names.DETAIL))
    reference = parity.head_reference(
        model, job.task, job.width, inputs[names.TOKENS], inputs.get(names.DETAIL), levels
    )
    answers = run({name: value.numpy() for name, value in inputs.items()})
    return parity.compare(answers, [reference], seed=case.seed, min_gap=case.min_gap)
