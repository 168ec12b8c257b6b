"""Networks with decoders after TaskExpert: what their configuration means, what they tap, and how they are kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slimpath.models import ConfigError, HeadConfig, ModelConfig, MultiTaskModel, load_checkpoint, save_checkpoint
from slimpath.models.families import config_from_dict

BACKBONES = ("vit", "m3vit", "swin", "mtlora")
TASKS = (HeadConfig("semseg", "classes", 5), HeadConfig("depth", "depth", 1), HeadConfig("scene", "image_classes", 4))

Build = Callable[..., MultiTaskModel]


@pytest.fixture(params=BACKBONES)
def model(request: pytest.FixtureRequest, make_model: Build) -> MultiTaskModel:
    return make_model(f"taskexpert_{request.param}_micro", tasks=TASKS)


@pytest.mark.parametrize("overrides", [{}, {"adapter_blocks": (1, 2), "adapter_rank": 2}])
@pytest.mark.parametrize("family", ["vit", "m3vit"])
def test_taps_are_what_a_network_that_ends_there_gives(
    family: str, overrides: dict[str, Any], make_model: Build, make_images: Callable[..., Tensor]
) -> None:
    tasks = tuple(replace(task, decoder="taskexpert") for task in TASKS[:2])
    model = make_model(f"taskexpert_{family}_micro", tasks=tasks, taps=(0, 2), **overrides)
    rows, index = ["depth", "semseg", "depth"], torch.tensor([0, 1, 1])
    with torch.no_grad():
        seen = model.encode(make_images(2), index, rows, torch.tensor([1, 2, 2]))
    assert [level.shape for level in seen.levels] == [seen.tokens_BND.shape] * 2
    for tap, level in zip((0, 2), seen.levels):
        kept = {name: tuple(b for b in getattr(model.config, name) if b <= tap) for name in ("moe_blocks",)}
        adapted = tuple(block for block in model.config.adapter_blocks if block <= tap)
        more = {"adapter_blocks": adapted, "adapter_rank": 2 if adapted else 0}
        config = replace(model.config, depth=tap + 1, taps=(), tasks=TASKS[:2], **kept, **more)
        short = MultiTaskModel(config).eval()
        own = model.state_dict()
        short.load_state_dict({name: own.get(name, value) for name, value in short.state_dict().items()}, strict=False)
        with torch.no_grad():
            found = short.encode(make_images(2), index, rows, torch.tensor([1, 2, 2])).tokens_BND
        torch.testing.assert_close(found, level)


def test_taps_of_a_branch_are_those_of_the_rows(make_model: Build, make_images: Callable[..., Tensor]) -> None:
    own = {"adapter_blocks": (2, 3), "adapter_rank": 2, "adapter_mode": "branch", "adapter_on": ("proj", "fc1", "fc2")}
    model = make_model("taskexpert_vit_micro", tasks=TASKS[:2], **own)
    with torch.no_grad():
        seen = model.encode(make_images(1), torch.tensor([0, 0]), ["depth", "semseg"])
    same = [torch.equal(level[0], level[1]) for level in seen.levels]
    assert same == [True, True, False]  # only from block 2 on have tasks a path of their own


def test_checkpoint_and_json_bring_the_network_back(model: MultiTaskModel, tmp_path: Path) -> None:
    assert config_from_dict(model.config.to_dict()) == model.config
    loaded, _ = load_checkpoint(save_checkpoint(tmp_path / "model.safetensors", model))
    assert loaded.config == model.config
    images, rows = torch.randn(1, 3, *model.config.image_hw), torch.zeros(3, dtype=torch.long)
    ours, theirs = (m(images, model.config.task_names, image_index_B=rows).raw for m in (model, loaded))
    assert all(torch.equal(ours[task], theirs[task]) for task in ours)


def test_network_of_another_size_keeps_its_weights(make_model: Build) -> None:
    model = make_model("taskexpert_m3vit_micro", tasks=TASKS)
    resized = model.resized((48, 64))
    own = resized.state_dict()
    same = [name for name, value in model.state_dict().items() if torch.equal(own[name], value)]
    assert set(own) - set(same) == {"encoder.position"}
    raw = resized(torch.randn(1, 3, 48, 64), ["depth"]).raw["depth"]
    assert raw.shape == (1, 1, 48, 64) and raw.isfinite().all()


def test_image_labels_keep_their_decoder_and_a_model_of_labels_alone_taps_nothing(make_model: Build) -> None:
    model = make_model("taskexpert_m3vit_micro", tasks=TASKS)
    assert [task.decoder for task in model.config.tasks] == ["taskexpert", "taskexpert", "native"]
    alone = make_model("taskexpert_m3vit_micro", tasks=TASKS[2:])
    assert alone.config.levels == 0 and alone.decoder_experts is None
    assert alone.encode(torch.randn(1, 3, 32, 32), torch.tensor([0]), ["scene"], torch.tensor([1])).levels == ()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"taps": ()}, "at least one for taskexpert decoders, got ()"),
        ({"taps": (3,)}, "taps are at most 3 blocks before the last"),
        ({"taps": (4,)}, "taps must lie in 0..3, got (4,)"),
        ({"taps": (2, 1)}, "taps must ascend without repeats, got (2, 1)"),
        ({"decoder_experts": 0}, "decoder_experts and decoder_expert_hidden must be at least 1, got 0 and 8"),
        ({"decoder_expert_hidden": -1}, "must be at least 1, got 4 and -1"),
    ],
)
def test_what_cannot_be_is_refused_with_expected_and_got(
    overrides: dict[str, Any], message: str, make_model: Build
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_model("taskexpert_vit_micro", **overrides)
    assert message in str(caught.value)


def test_labels_of_images_have_no_such_decoder() -> None:
    with pytest.raises(ConfigError, match="a taskexpert decoder cannot answer tasks of kind image_classes"):
        HeadConfig("scene", "image_classes", 4, decoder="taskexpert")


@pytest.mark.parametrize(
    ("depth", "taps"), [(12, (2, 5, 8)), (24, (5, 11, 17)), (4, (0, 1, 2)), (3, (0, 1)), (2, (0,))]
)
def test_preset_taps_a_vit_after_each_quarter(depth: int, taps: tuple[int, ...], make_model: Build) -> None:
    config = make_model("taskexpert_vit_micro", depth=depth).config
    assert isinstance(config, ModelConfig) and config.taps == taps
