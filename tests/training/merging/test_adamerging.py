"""AdaMerging against a transcription of its published loop; coefficients stay in range; what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call

from slimpath.tests.training.merging.families import read_family
from slimpath.training.merging import Family, MergeConfig, MergeError, merge_family
from slimpath.training.merging.adamerging import adamerging
from slimpath.training.merging.assemble import assemble
from slimpath.training.merging.pictures import Pictures
from slimpath.training.merging.ties import ties_split
from slimpath.training.merging.vectors import Tensors, backbone


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    from slimpath.export.describe import preprocessing

    drawn = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8)
    return Pictures(6, lambda number: drawn[number], (32, 32), preprocessing({}), "noise")


def published(family: Family, vectors: list[Tensors], pictures: Pictures, config: MergeConfig) -> torch.Tensor:
    """EnnengYang/AdaMerging, src/main_layer_wise_adamerging.py, line by line, with the task's own stand-in for depth.

    Coefficients [L, T]; every task has its own forward pass there.
    """
    model = assemble(family, family.base_tensors())
    names = list(family.base_tensors())
    pretrained = [family.base_tensors()[name] for name in names]
    lambdas_raw = torch.nn.Parameter(torch.ones(len(names), len(vectors)) * config.factor)
    optimizer = torch.optim.Adam([lambdas_raw], lr=config.lr, betas=(0.9, 0.999), weight_decay=0.0)
    for images in pictures.batches(config.images, config.steps, config.seed):
        losses = torch.zeros(())
        for head in family.config.tasks:
            lambdas = torch.clamp(lambdas_raw, min=0.0, max=1.0)
            mixed = {
                name: pretrained[j] + sum(vector[name].float() * lambdas[j, t] for t, vector in enumerate(vectors))
                for j, name in enumerate(names)
            }
            x = functional_call(model, mixed, (images, [head.name] * len(images))).raw[head.name]
            if head.kind == "probability":
                x = torch.cat([x, torch.zeros_like(x)], dim=1)
            if head.kind == "depth":
                tuned = family.member_of(head.name).model
                with torch.no_grad():
                    known = tuned(images, [head.name] * len(images)).raw[head.name]
                losses = losses + (x - known).abs().mean()
            else:
                losses = losses + -(x.softmax(1) * x.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
    return torch.clamp(lambdas_raw.detach(), min=0.0, max=1.0)


@pytest.mark.parametrize("ties_first", [False, True])
def test_coefficients_are_those_of_the_published_loop(family: Family, pictures: Pictures, ties_first: bool):
    config = MergeConfig("adamerging", steps=6, images=4, lr=0.02, ties_first=ties_first)
    vectors = family.vectors()
    change, learned = adamerging(family, vectors, pictures, config)
    vectors = ties_split(vectors, config.keep) if ties_first else vectors
    expected = published(family, vectors, pictures, config)
    assert float((expected - 0.3).abs().max()) > 0.05  # they have moved
    torch.testing.assert_close(learned.coefficients_LT, expected, atol=2e-3, rtol=1e-3)
    for row, name in enumerate(learned.names):
        mixed = sum(float(learned.coefficients_LT[row, t]) * vector[name] for t, vector in enumerate(vectors))
        torch.testing.assert_close(change[name], mixed)


def test_entropy_falls_and_the_merged_model_is_that_of_the_coefficients(family: Family, pictures: Pictures):
    done = merge_family(family, MergeConfig("adamerging", steps=30, images=6, lr=0.02), pictures)
    assert done.learned is not None
    assert np.mean(done.learned.losses[-3:]) < np.mean(done.learned.losses[:3])
    merged, base = backbone(done.model), family.base_tensors()
    row = done.learned.names.index(name := "encoder.blocks.1.attn.qkv")
    change = sum(done.learned.coefficients_LT[row, t] * vector[name] for t, vector in enumerate(family.vectors()))
    torch.testing.assert_close(merged[name], (base[name] + change).float(), atol=1e-6, rtol=1e-5)


def test_coefficients_stay_between_0_and_1(family: Family, pictures: Pictures):
    config = MergeConfig("adamerging", scale=0.95, steps=8, images=2, lr=0.5)
    _, learned = adamerging(family, family.vectors(), pictures, config)
    assert float(learned.coefficients_LT.min()) == 0 and float(learned.coefficients_LT.max()) == 1


def test_same_seed_gives_the_same_coefficients_and_another_one_others(family: Family, pictures: Pictures):
    runs = [
        adamerging(family, family.vectors(), pictures, MergeConfig("adamerging", steps=3, images=2, lr=0.02, seed=seed))
        for seed in (0, 0, 1)
    ]
    first, same, other = (learned.coefficients_LT for _, learned in runs)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_tasks_without_an_entropy_can_be_left_out_but_not_all(tmp_path: Path, family: Family, pictures: Pictures):
    config = MergeConfig("adamerging", steps=2, images=2, lr=0.05, regression="none")
    _, alone = adamerging(family, family.vectors(), pictures, config)
    _, kept = adamerging(family, family.vectors(), pictures, MergeConfig("adamerging", steps=2, images=2, lr=0.05))
    assert alone.losses[0] < kept.losses[0]
    numbers = read_family(tmp_path, ("depth", "normals"))
    with pytest.raises(MergeError, match="entropy, got depth, normals; keep them near"):
        adamerging(numbers, numbers.vectors(), pictures, config)


def test_pictures_are_needed(family: Family):
    with pytest.raises(MergeError, match="needs pictures, got none"):
        merge_family(family, MergeConfig("adamerging"))
