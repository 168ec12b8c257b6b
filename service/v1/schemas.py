"""What /v1 reads and answers, as types: requests are checked against these, and openapi.json is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..settings import HIGHEST_PRIORITY

OutputFormat = Literal["auto", "png", "png8", "png16", "npy", "npz", "json", "rle", "polygons"]
ResponseForm = Literal["json", "raw", "zip"]
MAX_TEXT = 2048

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is wanted of an image. In a query or a form every value is a text: "depth=2,edge", "20ms", "true"."""

    tasks: Annotated[
        Text
        | Annotated[list[Name], Meta(max_length=256)]
        | Annotated[dict[Name, float | Text], Meta(max_length=256)]
        | None,
        Meta(
            description='All unless given. "depth,edge"; with preferences "depth=2,edge" or {"depth": 2, "edge": 1}; '
            'with floors, least shares of the full accuracy, "depth>=0.9".',
            examples=["depth,semseg"],
        ),
    ] = None
    budget: Annotated[
        Text | Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(
            description='"20ms", "300MB", "50mJ", "1.5GFLOPs", a share of the full FLOPs such as 0.5, pins such as '
            '"width=0.5", joined by commas; or "min". Full unless given.',
            examples=["0.5"],
        ),
    ] = None
    deadline_ms: Annotated[
        Annotated[float, Meta(gt=0, le=3_600_000)] | None,
        Meta(
            description="From the arrival of the request to the start of its answer. Under load the answer gets "
            "narrower to keep it; a request that cannot keep it is refused at once (503).",
            examples=[200],
        ),
    ] = None
    size: Annotated[
        Text | Annotated[int, Meta(ge=1, le=65536)] | None,
        Meta(description="Input size of the network, one of those in /v1/models.", examples=["224x224"]),
    ] = None
    output_size: Annotated[
        Literal["network", "original"],
        Meta(description="Resolution of dense outputs: the network's, its padding cut away, or the picture's."),
    ] = "network"
    format: Annotated[
        Text | Annotated[dict[Name, OutputFormat], Meta(max_length=256)] | None,
        Meta(
            description='One for all tasks ("png16"), or one per task ("semseg=rle,depth=png16"). A task that does '
            "not have the one for all keeps its own.",
            examples=["semseg=rle,depth=png16"],
        ),
    ] = None
    panel: Annotated[bool, Meta(description="Also one picture of all tasks side by side.")] = False
    strict: Annotated[bool, Meta(description="Refuse (422) what no configuration can keep.")] = False
    priority: Annotated[
        int,
        Meta(
            ge=-HIGHEST_PRIORITY,
            le=HIGHEST_PRIORITY,
            description="Of this client's own requests (of one API key, or else one address) the higher goes first. "
            "Other clients are not pushed back by it.",
        ),
    ] = 0
    response: Annotated[
        ResponseForm,
        Meta(description="One JSON document; or the bytes of one output alone; or a ZIP archive with a file for each."),
    ] = "json"
    model: Annotated[Name | None, Meta(description="A name of /v1/models; the first one unless given.")] = None


class JsonRequest(Options, forbid_unknown_fields=True, kw_only=True):
    """The body of a request in JSON."""

    image: Annotated[
        str,
        Meta(description="The image file in base64, or a data: URL of it. Never fetched from anywhere.", min_length=1),
    ]


class ErrorDetail(msgspec.Struct):
    """What went wrong: a stable word for programs, a sentence for people."""

    code: str
    message: str


class ErrorAnswer(msgspec.Struct):
    """Every error of /v1."""

    error: ErrorDetail


class ModelRef(msgspec.Struct):
    """Which model answered; `digest` names its bundle."""

    name: str
    version: str
    digest: str


class ImageInfo(msgspec.Struct):
    """The picture as it was read: upright, in pixels."""

    width: int
    height: int
    format: str


class PlanInfo(msgspec.Struct):
    """The configuration that ran.

    `share`: of the FLOPs of the full configuration for these tasks. `reasons`: why this one, in words.
    """

    size_hw: tuple[int, int]
    encoder_width: float
    top_k: int
    decoder_widths: dict[str, float]
    precision: str
    flops: int
    share: float
    tasks: dict[str, float]
    budget: str
    budget_met: bool
    unmet: list[str]
    scored_by: str
    costed_by: str
    backend: str
    reasons: list[str]


class PredictedCost(msgspec.Struct):
    """What the plan was expected to cost on an undisturbed device; null is unknown: no profile was measured."""

    flops: int
    memory_mb: float
    latency_ms: float | None
    p95_ms: float | None
    energy_mj: float | None


class MeasuredCost(msgspec.Struct):
    """What it took, in ms. `engine_ms`: the engine call, whose batch held `batch_size` requests; encoder and heads are
    those of the whole batch. `server_ms`: from the request's arrival until its answer was being written."""

    server_ms: float
    decode_ms: float
    queue_ms: float
    engine_ms: float
    encoder_ms: float
    heads_ms: float
    batch_size: int


class Cost(msgspec.Struct):
    """Predicted and measured."""

    predicted: PredictedCost
    measured: MeasuredCost


class Quality(msgspec.Struct):
    """Whether the answer is less than the model's best.

    `lowered_by_load`: narrower than what was asked for, to be in time. `kept`: task -> share of its full accuracy above
    trivial, null where unmeasured.
    """

    lowered: bool
    lowered_by_load: bool
    kept: dict[str, float | None]


class Output(msgspec.Struct, omit_defaults=True):
    """One task's answer.

    `data`: the file in base64 (response "json"); `file`: its name (response "zip"); `value`: what needs no file. Of
    integer pictures the quantity is `stored * scale + offset`.
    """

    kind: str
    unit: str
    format: str
    media_type: str
    shape: list[int] = []
    dtype: str = ""
    data: str | None = None
    file: str | None = None
    value: Any = None
    scale: float | None = None
    offset: float | None = None
    classes: list[str] = []


class Picture(msgspec.Struct, omit_defaults=True):
    """A PNG picture, as in Output."""

    media_type: str
    data: str | None = None
    file: str | None = None


class InferAnswer(msgspec.Struct):
    """The answer to /v1/infer."""

    id: str
    model: ModelRef
    image: ImageInfo
    plan: PlanInfo
    cost: Cost
    quality: Quality
    outputs: dict[str, Output]
    panel: Picture | None


class TaskInfo(msgspec.Struct):
    """A task of a model: what its numbers mean, and the formats it comes in, the one of "auto" first."""

    kind: str
    unit: str
    description: str
    classes: list[str]
    formats: list[str]


class ModelInfo(msgspec.Struct):
    """A model that answers. `predicts`: "latency" where a profile of this device was measured, else "flops"."""

    name: str
    version: str
    digest: str
    ready: bool
    tasks: dict[str, TaskInfo]
    sizes_hw: list[tuple[int, int]]
    encoder_widths: list[float]
    top_k: int
    precisions: list[str]
    backend: str
    licence: str
    predicts: str


class ModelsAnswer(msgspec.Struct):
    """The answer to /v1/models."""

    models: list[ModelInfo]


class PlannedCost(msgspec.Struct):
    """A plan with what it would cost and keep."""

    plan: PlanInfo
    predicted: PredictedCost
    kept: dict[str, float | None]


class PlanAnswer(msgspec.Struct):
    """The answer to /v1/plan. `curve`: the choices from cheapest to full, if asked for."""

    model: ModelRef
    chosen: PlannedCost
    curve: list[PlannedCost]
