"""Outcomes -> the body of an answer: outputs stacked over the images, and in `parameters` how they came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from .compression import deflate
from .request import Asked, InferRequest
from .tensors import bytes_tensor, little_endian, to_json

if TYPE_CHECKING:
    from ...runtime.planning.plan import Plan
    from ..model import Model
    from ..scheduler.job import Outcome

LENGTH_HEADER = "Inference-Header-Content-Length"
PREFIX = "Slimpath-"
# What the answer says in `parameters`, and again as Slimpath-... for clients that send raw images.
MIRRORED = ("width", "top_k", "size", "backend", "predicted_ms", "queue_ms", "compute_ms", "energy_mj", "degraded")
DATATYPES = {"uint8": "UINT8", "float32": "FP32"}


@dataclass(frozen=True)
class WrittenAnswer:
    """The pieces of a body, and the headers that belong to it."""

    pieces: list[bytes | memoryview]
    headers: dict[str, str]


def write_answer(model: Model, request: InferRequest, outcomes: list[Outcome], encoding: str | None) -> WrittenAnswer:
    """The answer to a request of one or several images.

    Args:
        outcomes: one per image, all of one size.
        encoding: to compress the body with; None for none.
    """
    parameters = describe(model, outcomes)
    outputs: list[dict[str, Any]] = []
    binary: list[bytes | memoryview] = []
    for asked in request.outputs:
        output, data = _output(asked, outcomes)
        outputs.append(output)
        if data is not None:
            binary.append(data)
    answer: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id:
        answer["id"] = request.id
    header = msgspec.json.encode({**answer, "parameters": parameters, "outputs": outputs})
    headers = {
        PREFIX + name.replace("_", "-").title(): _plain(parameters[name]) for name in MIRRORED if name in parameters
    }
    headers["Content-Type"] = "application/octet-stream" if binary else "application/json"
    if binary:
        headers[LENGTH_HEADER] = str(len(header))
    pieces: list[bytes | memoryview] = [header, *binary]
    if encoding is not None:
        pieces = [deflate(b"".join(pieces), encoding)]
        headers["Content-Encoding"] = encoding
    return WrittenAnswer(pieces, headers)


def _output(asked: Asked, outcomes: list[Outcome]) -> tuple[dict[str, Any], bytes | memoryview | None]:
    results = [outcome.result for outcome in outcomes]
    if asked.classes:
        texts = [text for result in results for text in _likeliest(result[asked.name], _names(result, asked), asked)]
        shape, datatype = [len(results), asked.classes], "BYTES"
        data: Any = bytes_tensor(texts) if asked.binary else texts
    else:
        # One image: no copy, whatever its size.
        values = (
            results[0][asked.name][None] if len(results) == 1 else np.stack([result[asked.name] for result in results])
        )
        shape, datatype = list(values.shape), DATATYPES[values.dtype.name]
        data = little_endian(values).data.cast("B") if asked.binary else to_json(values)
    output: dict[str, Any] = {"name": asked.name, "datatype": datatype, "shape": shape}
    if asked.binary:
        return {**output, "parameters": {"binary_data_size": len(data)}}, data
    return {**output, "data": data}, None


def _names(result: Any, asked: Asked) -> tuple[str, ...]:
    return result.specs[asked.name].classes


def _likeliest(probabilities: np.ndarray, names: tuple[str, ...], asked: Asked) -> list[str]:
    """As Triton writes classifications: "probability:index:label", the likeliest first."""
    best = np.argsort(-probabilities, kind="stable")[: asked.classes]
    labels = [f":{names[index]}" if names else "" for index in best]
    return [f"{probabilities[index]:f}:{index}{label}" for index, label in zip(best, labels)]


def describe(model: Model, outcomes: list[Outcome]) -> dict[str, str | float | int | bool]:
    """How the answer came about; of several images what is said of the one with the narrowest plan."""
    outcome = min(outcomes, key=lambda each: each.result.plan.share)
    plan, timings_ms = outcome.result.plan, outcome.result.timings_ms
    compute_ms = sum(value for name, value in timings_ms.items() if name not in ("total", "decode"))
    found: dict[str, str | float | int | bool | None] = {
        "task": ",".join(plan.tasks),
        "width": plan.encoder_width,
        "top_k": plan.top_k,
        "size": f"{plan.size_hw[0]}x{plan.size_hw[1]}",
        "precision": plan.precision,
        "backend": model.backend,
        "mflops": round(plan.flops / 1e6, 3),
        "predicted_ms": _rounded(plan.latency_ms),
        "queue_ms": _rounded(max(each.queue_ms for each in outcomes)),
        "compute_ms": _rounded(compute_ms),
        "energy_mj": _rounded(plan.energy_mj),
        "batch_size": outcome.batch_size,
        "degraded": any(each.degraded for each in outcomes),
        "budget_met": all(each.result.plan.budget_met for each in outcomes),
        "slack_ms": _rounded(outcome.slack_ms),
        "reason": _reason(plan, outcome.degraded),
    }
    return {name: value for name, value in found.items() if value is not None}


def _reason(plan: Plan, degraded: bool) -> str:
    if degraded:
        return "narrower than asked for, to be in time"
    if not plan.budget_met:
        return f"the least there is: nothing keeps {', '.join(plan.unmet) or plan.budget}"
    return "all of it" if plan.budget in ("", "full") else f"the best within {plan.budget}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
