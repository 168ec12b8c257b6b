"""A result -> the bytes of the response: one JSON document, one file, or an archive. Runs in the pool."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from ...runtime.imaging.pictures import display_image, image_part, panel, png_bytes, single, task_cell
from .formats import Encoded, encode
from .plans import model_ref, plan_info, predicted
from .schemas import Cost, ImageInfo, InferAnswer, MeasuredCost, Options, Output, Picture, Quality

if TYPE_CHECKING:
    from ..model import Model
    from ..scheduler.job import Outcome
    from ..settings import LimitSettings
    from .preparing import Prepared

JSON_SHARE = 0.1  # numbers in a JSON list, of the values that an output may have: each is ten bytes of text
PANEL = "panel"


@dataclass(frozen=True)
class Content:
    """What is sent."""

    body: bytes
    media_type: str
    headers: dict[str, str]


def make_content(
    model: Model, prepared: Prepared, outcome: Outcome, options: Options, limits: LimitSettings,
    *, request_id: str, arrived_s: float,
) -> Content:  # fmt: skip
    """Encode the outputs and put the answer together.

    Args:
        arrived_s: when the request came, on time.monotonic().

    Raises:
        HttpError: 422; an output is too large for its format.
    """
    result, specs = outcome.result, outcome.result.specs
    draw = _drawer(prepared, outcome)
    shown = {task: image_part(result[task], result) for task in prepared.formats}
    encoded = {
        task: encode(specs[task], shown[task], name, draw, max_json_values=limits.max_output_mp * 1e6 * JSON_SHARE)
        for task, name in prepared.formats.items()
        if not (options.response == "raw" and options.panel)  # of that one only the panel is sent
    }
    sheet = draw(PANEL) if options.panel else None
    cost = _cost(prepared, outcome, (monotonic() - arrived_s) * 1e3)
    headers = _headers(model, outcome, cost)
    if options.response == "raw":
        return _raw(encoded, sheet, headers)
    asked = prepared.plan if outcome.degraded else None
    answer = InferAnswer(
        id=request_id,
        model=model_ref(model),
        image=ImageInfo(prepared.image.size_hw[1], prepared.image.size_hw[0], prepared.image.format),
        plan=plan_info(result.plan, model.backend, asked=asked, why_narrower=_why_narrower(outcome)),
        cost=cost,
        quality=Quality(_lowered(outcome), outcome.degraded, result.plan.qualities),
        outputs={task: _output(outcome, task, item) for task, item in encoded.items()},
        panel=None if sheet is None else Picture("image/png"),
    )
    if options.response == "zip":
        return _archive(answer, encoded, sheet, headers)
    for task, item in encoded.items():
        if item.value is None:
            answer.outputs[task].data = _base64(item.data)
    if answer.panel is not None and sheet is not None:
        answer.panel.data = _base64(sheet)
    return Content(msgspec.json.encode(answer), "application/json", headers)


def _drawer(prepared: Prepared, outcome: Outcome) -> Callable[[str], bytes]:
    """Task, or "panel" -> a picture as PNG."""
    result = outcome.result

    def draw(task: str) -> bytes:
        if task == PANEL:
            return png_bytes(panel(result, prepared.image.rgb))
        photograph = display_image(prepared.image.rgb)
        return png_bytes(single(task_cell(result.specs[task], image_part(result[task], result), photograph)))

    return draw


def _cost(prepared: Prepared, outcome: Outcome, server_ms: float) -> Cost:
    timings = outcome.result.timings_ms
    measured = MeasuredCost(
        server_ms=round(server_ms, 3),
        decode_ms=round(prepared.decode_ms, 3),
        queue_ms=round(outcome.queue_ms, 3),
        engine_ms=round(timings.get("total", 0.0), 3),
        encoder_ms=round(timings.get("encoder", 0.0), 3),
        heads_ms=round(timings.get("heads", 0.0), 3),
        batch_size=outcome.batch_size,
    )
    return Cost(predicted(outcome.result.plan), measured)


def _lowered(outcome: Outcome) -> bool:
    """Less than the full configuration, by the budget or by the load."""
    return outcome.degraded or outcome.result.plan.share < 1


def _why_narrower(outcome: Outcome) -> str:
    if outcome.slack_ms is None:
        return f"others are waiting, {outcome.queue_ms:.1f} ms in the queue"
    return f"to keep the deadline, after {outcome.queue_ms:.1f} ms in the queue"


def _headers(model: Model, outcome: Outcome, cost: Cost) -> dict[str, str]:
    """What matters most, for those who take the bytes alone."""
    plan = outcome.result.plan
    headers = {
        "Slimpath-Model": model.name,
        "Slimpath-Width": f"{plan.encoder_width:g}",
        "Slimpath-Top-K": str(plan.top_k),
        "Slimpath-Share": f"{plan.share:.4f}",
        "Slimpath-Degraded": "true" if outcome.degraded else "false",
        "Slimpath-Queue-Ms": f"{outcome.queue_ms:.3f}",
        "Slimpath-Engine-Ms": f"{cost.measured.engine_ms:.3f}",
        "Slimpath-Server-Ms": f"{cost.measured.server_ms:.3f}",
    }
    if plan.latency_ms is not None:
        headers["Slimpath-Predicted-Ms"] = f"{plan.latency_ms:.3f}"
    quality = _mean_kept(plan.qualities)
    if quality is not None:
        headers["Slimpath-Quality"] = f"{quality:.4f}"
    return headers


def _mean_kept(kept: dict[str, float | None]) -> float | None:
    """Over the tasks, the share of full accuracy; None if it is unknown of one."""
    known = [share for share in kept.values() if share is not None]
    return fmean(known) if known and len(known) == len(kept) else None


def _output(outcome: Outcome, task: str, item: Encoded) -> Output:
    spec = outcome.result.specs[task]
    return Output(spec.kind, spec.unit, item.format, item.media_type, value=item.value, **item.details)


def _raw(encoded: dict[str, Encoded], sheet: bytes | None, headers: dict[str, str]) -> Content:
    if sheet is not None:
        return Content(sheet, "image/png", headers)
    (item,) = encoded.values()
    if "scale" in item.details:
        headers = {
            **headers,
            "Slimpath-Scale": repr(item.details["scale"]),
            "Slimpath-Offset": repr(item.details["offset"]),
        }
    return Content(b"".join(_parts_of(item)), item.media_type, headers)


def _archive(answer: InferAnswer, encoded: dict[str, Encoded], sheet: bytes | None, headers: dict[str, str]) -> Content:
    """A ZIP archive, not compressed: pictures are already, and NumPy reads arrays out of it with numpy.load."""
    files = {f"{task}.{item.extension}": _parts_of(item) for task, item in encoded.items()}
    for task, item in encoded.items():
        answer.outputs[task].file = f"{task}.{item.extension}"
        answer.outputs[task].value = None
    if sheet is not None and answer.panel is not None:
        answer.panel.file = "panel.png"
        files["panel.png"] = (sheet,)
    files["answer.json"] = (msgspec.json.format(msgspec.json.encode(answer), indent=2),)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, parts in files.items():
            entry = zipfile.ZipInfo(name)
            entry.file_size = sum(map(len, parts))
            with archive.open(entry, "w") as file:
                for part in parts:
                    file.write(part)
    return Content(buffer.getvalue(), "application/zip", headers)


def _parts_of(item: Encoded) -> tuple[bytes | memoryview, ...]:
    return item.parts if item.value is None else (msgspec.json.encode(item.value),)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
