"""The original is read and checked; its copy has narrow widths, and may have native decoders and other names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slimpath.models import CheckpointError, HeadConfig, save_checkpoint
from slimpath.tests.training.adapt.conftest import TASKS, full_width
from slimpath.training.adapt.config import AdaptConfig
from slimpath.training.adapt.errors import AdaptError
from slimpath.training.adapt.network import hold_statistics, load_original, renamed, slimmable

LINEAR = HeadConfig("label", "image_classes", 3, decoder="linear")
SETR = HeadConfig("normals", "normals", 3, decoder="setr_pup", stream=(8,), log_depth=False)


def test_tasks_that_the_trainer_knows_keep_their_names_and_others_get_one_of_their_kind(tmp_path: Path) -> None:
    heads = (HeadConfig("parts", "classes", 4), LINEAR, HeadConfig("semseg", "classes", 3), *TASKS[1:3])
    path = save_checkpoint(tmp_path / "a.safetensors", full_width("vit_micro", heads))
    original = load_original(path)
    assert dict(original.known_as) == {
        "parts": "human_parts", "label": "scene", "semseg": "semseg", "depth": "depth", "edge": "edge",
    }  # fmt: skip
    assert list(original.known_as) == [head.name for head in heads]


def test_a_name_that_means_another_kind_is_not_kept(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", full_width("vit_micro", (HeadConfig("edge", "depth", 1),)))
    assert dict(load_original(path).known_as) == {"edge": "depth"}


def test_more_tasks_of_a_kind_than_there_are_names_are_refused(tmp_path: Path) -> None:
    heads = tuple(HeadConfig(f"task{number}", "image_classes", 3) for number in range(2))
    path = save_checkpoint(tmp_path / "a.safetensors", full_width("vit_micro", heads))
    with pytest.raises(AdaptError, match="too many tasks of kind image_classes: there is no place left for 'task1'"):
        load_original(path)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = full_width("m3vit_micro")
    model.routers["depth"].bias[0].data[1] = -torch.inf  # type: ignore[union-attr, index]
    with pytest.raises(AdaptError, match=r"not finite, in routers\.depth\.bias\.0"):
        load_original(save_checkpoint(tmp_path / "a.safetensors", model))


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_original(tmp_path / "nowhere.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointError):
        load_original(tmp_path / "a.safetensors")


@torch.no_grad()
def test_other_names_change_no_answer_and_share_every_tensor() -> None:
    model = full_width("m3vit_micro", adapter_blocks=(1,), adapter_rank=2)
    names = {"semseg": "human_parts", "depth": "depth", "edge": "saliency", "scene": "scene"}
    other = renamed(model, names, router_noise=0.0)
    assert other.config.task_names == tuple(names.values()) and other.config.router_noise == 0
    image = torch.randn(1, 3, *model.config.image_hw)
    for own, known in names.items():
        assert torch.equal(model(image, [own]).raw[own], other(image, [known]).raw[known])
    assert {value.data_ptr() for value in model.parameters()} == {value.data_ptr() for value in other.parameters()}
    assert all(value.requires_grad for value in other.parameters())


def test_copy_offers_the_widths_and_keeps_every_number() -> None:
    model = full_width("vit_micro", (*TASKS, SETR))
    copy = slimmable(model, AdaptConfig(widths=(0.5,)))
    assert copy.config.widths == (0.5, 1.0) and copy.config.tasks == model.config.tasks
    for name, value in model.state_dict().items():
        assert torch.equal(value, copy.state_dict()[name])
        assert value.data_ptr() != copy.state_dict()[name].data_ptr()


def test_native_decoders_take_the_place_of_published_ones_alone() -> None:
    model = full_width("vit_micro", (TASKS[0], SETR, LINEAR))
    copy = slimmable(model, AdaptConfig(native_decoders=True))
    assert [head.decoder for head in copy.config.tasks] == ["native"] * 3
    assert copy.config.task("normals").log_depth and copy.config.task("label").channels == 3
    assert torch.equal(copy.state_dict()["heads.semseg.out.weight"], model.state_dict()["heads.semseg.out.weight"])


def test_native_decoders_that_do_not_fit_the_patches_are_refused() -> None:
    model = full_width("vit_micro", (LINEAR,), patch=8)
    with pytest.raises(AdaptError, match="native decoders cannot be had"):
        slimmable(model, AdaptConfig(native_decoders=True))


def test_statistics_of_published_decoders_are_held() -> None:
    model = full_width("vit_micro", (SETR,)).train()
    hold_statistics(model)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(2, 3, *model.config.image_hw), ["normals"] * 2, width=0.25)
    assert before and all(torch.equal(value, before[name]) for name, value in model.named_buffers())
