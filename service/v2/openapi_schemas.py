"""The shapes of what /v2 answers, as JSON Schema. Tests hold them against what the server answers."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TENSOR_SHAPE: Schema = {"type": "array", "items": {"type": "integer"}}
PARAMETERS: Schema = {"type": "object", "additionalProperties": True}


def array_of(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def object_of(optional: dict[str, Schema] | None = None, **required: Schema) -> Schema:
    """An object that has these fields, and may have others."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


LIVE = object_of(live=FLAG)
READY = object_of(ready=FLAG)
MODEL_READY = object_of(name=TEXT, ready=FLAG)
SERVER = object_of(name=TEXT, version=TEXT, extensions=array_of(TEXT))

_TENSOR = object_of(name=TEXT, datatype={"type": "string", "enum": ["BYTES", "UINT8", "FP32"]}, shape=TENSOR_SHAPE)
METADATA = object_of(
    name=TEXT, versions=array_of(TEXT), platform=TEXT, inputs=array_of(_TENSOR), outputs=array_of(_TENSOR)
)

_CONFIG_TENSOR = object_of(name=TEXT, data_type=TEXT, dims=TENSOR_SHAPE)
CONFIG = object_of(
    {
        "parameters": {"type": "object", "additionalProperties": object_of(string_value=TEXT)},
        "dynamic_batching": object_of(priority_levels=COUNT, default_priority_level=COUNT),
        "version_policy": {"type": "object"},
    },
    name=TEXT,
    platform=TEXT,
    backend=TEXT,
    runtime=TEXT,
    max_batch_size=COUNT,
    input=array_of(_CONFIG_TENSOR),
    output=array_of(_CONFIG_TENSOR),
)

_STAGES = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip
_TIME = object_of(count=COUNT, ns=COUNT)
_BATCH = object_of(batch_size=COUNT, compute_input=_TIME, compute_infer=_TIME, compute_output=_TIME)
STATISTICS = object_of(
    model_stats=array_of(
        object_of(
            name=TEXT,
            version=TEXT,
            last_inference=COUNT,
            inference_count=COUNT,
            execution_count=COUNT,
            inference_stats=object_of(**dict.fromkeys(_STAGES, _TIME)),
            batch_stats=array_of(_BATCH),
        )
    )
)
INDEX = array_of(
    object_of(
        name=TEXT,
        version=TEXT,
        state={"type": "string", "enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
        reason=TEXT,
    )
)
ANSWER = object_of(
    {"id": TEXT},
    model_name=TEXT,
    model_version=TEXT,
    parameters=object_of(
        {
            "predicted_ms": {"type": "number"},
            "energy_mj": {"type": "number"},
            "slack_ms": {"type": "number"},
        },
        task=TEXT,
        width={"type": "number"},
        top_k=COUNT,
        size=TEXT,
        precision=TEXT,
        backend=TEXT,
        mflops={"type": "number"},
        queue_ms={"type": "number"},
        compute_ms={"type": "number"},
        batch_size=COUNT,
        degraded=FLAG,
        budget_met=FLAG,
        reason=TEXT,
    ),
    outputs=array_of(
        object_of(
            {
                "data": {
                    "type": "array",
                    "description": "Flat, row by row; missing where the tensor follows in binary.",
                },
                "parameters": object_of(binary_data_size=COUNT),
            },
            name=TEXT,
            datatype={"type": "string", "enum": ["BYTES", "UINT8", "FP32"]},
            shape=TENSOR_SHAPE,
        )
    ),
)
