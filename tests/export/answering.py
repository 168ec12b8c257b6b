"""What an engine answers, beside what the network gives."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from slimpath.models import MultiTaskModel
from slimpath.runtime import Bundle, Engine

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def plane_of(image_HW3: np.ndarray) -> Tensor:
    """A uint8 picture as networks are given it, float32 [1, 3, H, W]."""
    return torch.from_numpy(((image_HW3 / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32))


def check_engine_answers(model: MultiTaskModel, bundle: Bundle, widths: Iterable[float]) -> None:
    """Every task at every width, in its unit, on a picture of noise: within 1e-4, or of the largest depth."""
    image = np.random.default_rng(0).integers(0, 256, (*model.config.image_hw, 3), np.uint8)
    tasks = model.config.tasks
    top_k = model.config.top_k if bundle.manifest.encoder.moe_blocks else 0
    index = torch.zeros(len(tasks), dtype=torch.long)
    with Engine.load(bundle, threads=1) as engine:
        for width in widths:
            with torch.no_grad():
                raw = model(plane_of(image), [task.name for task in tasks], width=width, image_index_B=index).raw
            result = engine(image, budget=f"width={width}", probabilities=True)
            assert result.plan.encoder_width == width and result.plan.top_k == top_k
            for task in tasks:
                found = result.probabilities[task.name] if task.kind == "classes" else result[task.name]
                wanted = _in_its_unit(task.kind, raw[task.name][0])
                atol = 1e-4 * max(1.0, float(wanted.max())) if task.kind == "depth" else 1e-4
                np.testing.assert_allclose(found, wanted, atol=atol, rtol=0, err_msg=task.name)


def _in_its_unit(kind: str, raw: Tensor) -> Tensor:
    if kind in ("classes", "image_classes"):
        return torch.softmax(raw, 0)
    if kind == "depth":
        return torch.exp(raw[0].clamp(-5, 7))
    if kind == "normals":
        return (raw / (raw**2).sum(0).sqrt()).permute(1, 2, 0)
    return torch.sigmoid(raw[0])
