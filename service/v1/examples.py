"""Answers as openapi.json shows them: shortened, but whole in shape and without nulls, which FastAPI drops.

Tests hold them against the schemas, and the server against these.
"""

from __future__ import annotations

from typing import Any

# One grey pixel, so that the examples of requests can be sent.
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
# Without a value: bytes of an image are no text.
RAW = {
    "photo": {
        "summary": "An image file as it is",
        "description": "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' 'http://HOST/v1/infer?tasks=depth'",
    }
}
FORM = {"file": "(the bytes of photo.jpg)", "tasks": "depth,scene", "budget": "0.5", "format": "depth=png16"}

_MODEL = {"name": "m3vit_nano", "version": "1", "digest": "0f2b6c1d9a3e4857"}
_PLAN: dict[str, Any] = {
    "size_hw": [224, 224],
    "encoder_width": 0.5,
    "top_k": 2,
    "decoder_widths": {"depth": 0.5, "scene": 1.0},
    "precision": "fp32",
    "flops": 1_100_000_000,
    "share": 0.49,
    "tasks": {"depth": 1.0, "scene": 1.0},
    "budget": "0.5",
    "budget_met": True,
    "unmet": [],
    "scored_by": "accuracy",
    "costed_by": "profile",
    "backend": "onnxruntime",
    "reasons": [
        "the best configuration within 0.5",
        "chosen by measured accuracies",
        "costs were measured on this device",
    ],
}
_PREDICTED = {"flops": 1_100_000_000, "memory_mb": 35.2, "latency_ms": 21.4, "p95_ms": 23.0, "energy_mj": 160.0}
_KEPT = {"depth": 0.97, "scene": 0.99}

INFER: dict[str, Any] = {
    "id": "5f0c6f3f6d0d4c66a1d6c2d8a3a5e9b1",
    "model": _MODEL,
    "image": {"width": 640, "height": 480, "format": "jpeg"},
    "plan": _PLAN,
    "cost": {
        "predicted": _PREDICTED,
        "measured": {
            "server_ms": 27.5,
            "decode_ms": 3.1,
            "queue_ms": 0.2,
            "engine_ms": 21.9,
            "encoder_ms": 16.8,
            "heads_ms": 4.3,
            "batch_size": 1,
        },
    },
    "quality": {"lowered": True, "lowered_by_load": False, "kept": _KEPT},
    "outputs": {
        "depth": {
            "kind": "depth",
            "unit": "m",
            "format": "png16",
            "media_type": "image/png",
            "shape": [168, 224],
            "dtype": "float32",
            "data": DOT,
            "scale": 0.001,
            "offset": 0.0,
        },
        "scene": {
            "kind": "image_classes",
            "unit": "",
            "format": "json",
            "media_type": "application/json",
            "shape": [2],
            "dtype": "float32",
            "value": {"label": "kitchen", "probability": 0.9, "probabilities": {"kitchen": 0.9, "office": 0.1}},
            "classes": ["kitchen", "office"],
        },
    },
    "panel": {"media_type": "image/png", "data": DOT},
}
MODELS: dict[str, Any] = {
    "models": [
        {
            **_MODEL,
            "ready": True,
            "tasks": {
                "depth": {
                    "kind": "depth",
                    "unit": "m",
                    "description": "distance from the camera",
                    "classes": [],
                    "formats": ["png16", "png", "npy", "npz", "json"],
                }
            },
            "sizes_hw": [[224, 224]],
            "encoder_widths": [0.25, 0.5, 0.75, 1.0],
            "top_k": 2,
            "precisions": ["fp32"],
            "backend": "onnxruntime",
            "licence": "Apache-2.0",
            "predicts": "latency",
        }
    ]
}
PLAN: dict[str, Any] = {
    "model": _MODEL,
    "chosen": {"plan": _PLAN, "predicted": _PREDICTED, "kept": _KEPT},
    "curve": [],
}
