"""Converted checkpoints, their units in another order, still compute what the upstream programs compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from slimpath.export.convert import ConvertOptions
from slimpath.export.convert.m3vit import load as load_m3vit
from slimpath.export.convert.mtlora import load as load_mtlora
from slimpath.models import MultiTaskModel
from slimpath.tests.export.convert.conftest import normalised, reference, unpack
from slimpath.training.adapt.units import reorder_, unit_groups

TOLERANCE = 1e-4  # that of the conversion itself


@torch.no_grad()
def answers(model: MultiTaskModel, image: np.ndarray) -> dict[str, torch.Tensor]:
    tasks = [task for task in model.config.task_names for _ in image]
    index = torch.arange(len(tasks)) % len(image)
    return model.eval()(torch.from_numpy(normalised(image)), tasks, image_index_B=index).raw


def shuffled(model: MultiTaskModel) -> MultiTaskModel:
    groups, generator = unit_groups(model), torch.Generator().manual_seed(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reorder_(groups, [torch.rand(group.count, generator=generator) for group in groups])
    assert sum(not torch.equal(value, before[name]) for name, value in model.state_dict().items()) >= 2 * len(groups)
    return model


def test_m3vit_with_units_in_another_order_computes_what_upstream_computes(tmp_path: Path) -> None:
    folder = tmp_path / "best_model.pth.tar"
    folder.mkdir()
    for rank in (0, 1):
        unpack(f"m3vit-a/{rank}.pth.xz", folder / f"{rank}.pth")
    published = reference("m3vit-a")
    model = shuffled(load_m3vit(folder, ConvertOptions(heads=4, top_k=2, image_hw=(64, 96))).model)
    found = answers(model, published["image"])
    for task, name in (("semseg", "semseg"), ("saliency", "sal"), ("normals", "normals")):
        np.testing.assert_allclose(found[task][..., ::2, ::2], published[f"output.{name}"], atol=TOLERANCE, rtol=0)


def test_mtlora_with_units_in_another_order_computes_what_upstream_computes(tmp_path: Path) -> None:
    published = reference("mtlora-a")
    model = shuffled(load_mtlora(unpack("mtlora-a/checkpoint.pth.xz", tmp_path / "ckpt.pth"), ConvertOptions()).model)
    found = answers(model, published["image"])
    for task, name in (("semseg", "semseg"), ("saliency", "sal"), ("normals", "normals")):
        np.testing.assert_allclose(found[task][..., ::8, ::8], published[f"output/{name}"], atol=TOLERANCE, rtol=0)
