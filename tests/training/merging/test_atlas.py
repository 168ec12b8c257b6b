"""aTLAS against a transcription of its published loop, on labelled toy rooms; what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from slimpath.export.describe import preprocessing
from slimpath.tests.training.conftest import ToyRooms
from slimpath.training.losses import task_loss
from slimpath.training.merging import Family, MergeConfig, MergeError, merge_family
from slimpath.training.merging.assemble import assemble
from slimpath.training.merging.atlas import atlas
from slimpath.training.merging.pictures import LabelledPictures


@pytest.fixture(scope="module")
def pictures(family: Family) -> LabelledPictures:
    return LabelledPictures(ToyRooms(6), family.config.tasks, (32, 32), preprocessing({}), "toys")


def published(family: Family, pictures: LabelledPictures, config: MergeConfig) -> torch.Tensor:
    """fredzzhang/atlas: src/composition.py (WeightedImageEncoder, blockwise) and src/learn_task_addition.py.

    Coefficients [T, L] there; every task has its own forward pass.
    """
    model = assemble(family, family.base_tensors())
    params = family.base_tensors()
    dparams = [[vector[name].float() for name in params] for vector in family.vectors()]
    coef = torch.nn.Parameter(torch.zeros(len(dparams), len(params)))
    optimizer = torch.optim.AdamW([coef], lr=config.lr, weight_decay=0.1)
    for images, labels in pictures.labelled_batches(config.images, config.steps, config.seed):
        blocks = [sum(p * c[i] for p, c in zip(dp, coef)) for i, dp in enumerate(zip(*dparams))]
        new_params = {name: dp + p for dp, (name, p) in zip(blocks, params.items())}
        loss = torch.zeros(())
        for task in family.tasks:
            raw = functional_call(model, new_params, (images, [task] * len(images))).raw[task]
            loss = loss + task_loss(task, raw, labels[task], pictures.class_weights())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([coef], 1.0)
        optimizer.step()
    return coef.detach().T


def test_coefficients_are_those_of_the_published_loop(family: Family, pictures: LabelledPictures):
    config = MergeConfig("atlas", steps=6, images=3, lr=0.02)
    change, learned = atlas(family, family.vectors(), pictures, config)
    expected = published(family, pictures, config)
    assert float(expected.abs().max()) > 0.05  # they have moved
    torch.testing.assert_close(learned.coefficients_LT, expected, atol=2e-3, rtol=1e-3)
    row = learned.names.index(name := "encoder.blocks.0.mlp.up")
    mixed = sum(float(learned.coefficients_LT[row, t]) * vector[name] for t, vector in enumerate(family.vectors()))
    torch.testing.assert_close(change[name], mixed)


def test_loss_falls_and_coefficients_are_not_bound(family: Family, pictures: LabelledPictures):
    done = merge_family(family, MergeConfig("atlas", steps=40, images=6, lr=0.05), pictures)
    assert done.learned is not None
    assert np.mean(done.learned.losses[-3:]) < 0.98 * np.mean(done.learned.losses[:3])
    assert float(done.learned.coefficients_LT.min()) < 0


def test_labels_are_needed(family: Family, pictures: LabelledPictures):
    from slimpath.training.merging.pictures import Pictures

    plain = Pictures(1, lambda number: np.zeros((32, 32, 3), np.uint8), (32, 32), preprocessing({}), "plain")
    with pytest.raises(MergeError, match="atlas needs labelled pictures, got others"):
        merge_family(family, MergeConfig("atlas"), plain)


def test_loss_that_is_not_finite_is_refused_before_the_coefficients_are_spoilt(
    family: Family, pictures: LabelledPictures
):
    with pytest.raises(MergeError, match=r"step 0: expected a finite loss, got (nan|inf).*smaller --scale"):
        atlas(family, family.vectors(), pictures, MergeConfig("atlas", scale=1e30, steps=2, images=2))
