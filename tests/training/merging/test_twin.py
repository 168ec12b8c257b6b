"""Twin-Merging against its formula in NumPy; adapters that are exactly what a task has for itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.models import MultiTaskModel
from slimpath.tests.training.merging.families import read_family
from slimpath.training.merging import Family, MergeConfig, merge_family
from slimpath.training.merging.svd import low_rank, truncated
from slimpath.training.merging.twin import twin
from slimpath.training.merging.vectors import backbone

FULL = 999  # no matrix has as many singular values


def svd_r(matrix: np.ndarray, rank: int) -> np.ndarray:
    """LZY-the-boys/Twin-Merging, discriminative/sparsify.py, `svd`: U[:, :r] diag(S[:r]) Vh[:r]; vectors stay."""
    if matrix.ndim == 1:
        return matrix
    left, values, right = np.linalg.svd(matrix.reshape(len(matrix), -1))
    rank = min(rank, len(values))
    return (left[:, :rank] @ np.diag(values[:rank]) @ right[:rank]).reshape(matrix.shape)


def test_static_exclusive_parts_are_the_compressed_differences_to_the_shared_model(family: Family):
    """theta* + sum_t w_t SVD_r(theta_t - theta*), with w_t = 1 / T and theta* by task arithmetic at 0.3 (Lu et al.
    2024; discriminative/twin_merge.py: extract_twin_vector and its weighted sum)."""
    config = MergeConfig("twin", exclusive="static", rank=3)
    merged = backbone(merge_family(family, config).model)
    base = {name: value.double().numpy() for name, value in family.base_tensors().items()}
    tuned = [{k: v.double().numpy() for k, v in backbone(member.model).items()} for member in family.members]
    for name, theta_0 in base.items():
        shared = theta_0 + 0.3 * sum(model[name] - theta_0 for model in tuned)
        expected = shared + sum(svd_r(model[name] - shared, 3) for model in tuned) / len(tuned)
        np.testing.assert_allclose(merged[name].numpy(), expected, atol=2e-6, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 7), st.integers(0, 99))
def test_low_rank_is_the_nearest_of_its_rank(rows: int, columns: int, rank: int, seed: int):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, right = low_rank(matrix, rank)
    assert left.shape[1] == right.shape[0] == min(rank, rows, columns)
    left_over = np.linalg.svd(matrix.numpy(), compute_uv=False)[rank:]
    assert float((matrix - left @ right).norm()) == pytest.approx(float(np.linalg.norm(left_over)), abs=1e-9)
    torch.testing.assert_close(truncated(matrix, FULL), matrix)


def answer(model: MultiTaskModel, task: str, width: float) -> torch.Tensor:
    images = torch.randn(2, 3, *model.config.image_hw, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(images, [task] * 2, width=width).raw[task]


@pytest.mark.parametrize("width", [0.5, 1.0])
@pytest.mark.parametrize(
    ("preset", "only", "options"),
    [
        ("m3vit_micro", r"blocks\.[123]\.attn\.proj$", {}),
        ("vit_micro", r"blocks\.[23]\.attn\.proj$", {}),
        (
            "vit_micro",
            r"blocks\.[123]\.attn\.proj$",
            {"adapter_blocks": (1, 3), "adapter_rank": 3, "adapter_scale": 0.5},
        ),
        ("m3lora_micro", r"blocks\.[123]\.attn\.proj$", {}),
        (
            "vit_micro",
            r"blocks\.[23]\.attn\.proj$",
            {"adapter_blocks": (3,), "adapter_rank": 2, "adapter_on": ("fc2",)},
        ),
        ("swin_micro", r"stages\.3\.blocks\.1\.mlp\.down$", {}),
    ],
)
def test_adapters_of_full_rank_give_every_fine_tune_back_where_adapters_reach(
    tmp_path: Path, preset: str, only: str, options: dict, width: float
):
    family = read_family(tmp_path, preset=preset, only=only, by=1.0, **options)
    done = merge_family(family, MergeConfig("twin", rank=FULL))
    assert done.carried
    for member in family.members:
        task = member.tasks[0]
        found, expected = answer(done.model, task, width), answer(member.model, task, width)
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)
    plain = merge_family(family, MergeConfig("twin", rank=FULL, exclusive="static"))
    lost = [answer(plain.model, m.tasks[0], width) - answer(m.model, m.tasks[0], width) for m in family.members]
    assert min(float(difference.abs().max()) for difference in lost) > 1e-3  # the test can tell


def test_adapters_hold_the_largest_singular_values_of_their_matrix(family: Family):
    config = MergeConfig("twin", rank=2, scale=0.5)
    parts = twin(family, family.vectors(), config)
    name = "encoder.blocks.2.attn.proj"
    assert name in parts.carried
    shared = 0.5 * sum(vector[name] for vector in family.vectors())
    for member, vector in zip(family.members, family.vectors(), strict=True):
        down = parts.adapters[f"adapters.{member.tasks[0]}.block2_proj.down"].double()
        up = parts.adapters[f"adapters.{member.tasks[0]}.block2_proj.up"].double()
        expected = svd_r((vector[name] - shared).numpy(), 2)
        np.testing.assert_allclose((down @ up.T).numpy(), expected, atol=1e-6)
    torch.testing.assert_close(parts.change[name], shared)


@pytest.mark.parametrize("preset", ["m3vit_micro", "swin_micro", "mtlora_micro"])
def test_fine_tunes_that_left_the_backbone_alone_are_given_back(tmp_path: Path, preset: str):
    family = read_family(tmp_path, preset=preset, only="^$")
    done = merge_family(family, MergeConfig("twin"))
    for member in family.members:
        found, expected = answer(done.model, member.tasks[0], 0.5), answer(member.model, member.tasks[0], 0.5)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exclusive", ["adapters", "static"])
def test_one_fine_tune_with_scale_one_is_given_back(tmp_path: Path, exclusive: str):
    family = read_family(tmp_path, ("depth",), preset="vit_micro")
    done = merge_family(family, MergeConfig("twin", scale=1.0, exclusive=exclusive))
    torch.testing.assert_close(answer(done.model, "depth", 1.0), answer(family.members[0].model, "depth", 1.0))


def test_adapters_times_zero_are_no_place(tmp_path: Path):
    family = read_family(tmp_path, preset="vit_micro", adapter_blocks=(3,), adapter_rank=2, adapter_scale=0.0)
    done = merge_family(family, MergeConfig("twin"))
    assert not done.carried and done.model.config == family.config
