"""Small networks offered at full width only, as `slimpath convert` leaves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slimpath.models import HeadConfig, MultiTaskModel
from slimpath.tests.export.conftest import random_model

TASKS = (
    HeadConfig("semseg", "classes", 3),
    HeadConfig("depth", "depth", 1),
    HeadConfig("edge", "probability", 1),
    HeadConfig("scene", "image_classes", 2),
)


def full_width(preset: str = "m3vit_micro", tasks: tuple[HeadConfig, ...] = TASKS, **changes: Any) -> MultiTaskModel:
    """Random weights everywhere, adapters included: one that is 0 would hide what was done to it."""
    model = random_model(preset, tasks, **changes)
    for name, parameter in model.named_parameters():
        if "adapters." in name or "shared." in name:
            parameter.data.normal_(std=0.1)
    model.config = model.encoder.config = replace(model.config, widths=(1.0,))
    return model
