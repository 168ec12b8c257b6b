"""Products that a task has for itself in a ViT, in both modes: against the definition, at every width, and for what
they cost."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slimpath.models import MultiTaskModel
from slimpath.models.adapters import LowRank
from slimpath.models.encoder import narrowed
from slimpath.models.flops import encoder_cost
from slimpath.models.fold import folded

from .conftest import TASKS
from .test_flops import counted

ALL = ("qkv", "proj", "fc1", "fc2", "feed")
RANK = {"adapter_rank": 3, "adapter_scale": 0.5}
BRANCH = {**RANK, "adapter_mode": "branch", "adapter_on": ("proj", "fc1", "fc2")}
#: Preset and where tasks have what.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "everywhere": ("m3vit_micro", {**RANK, "adapter_blocks": (0, 1, 2, 3), "adapter_on": ALL}),
    "last blocks": ("m3vit_micro", {**RANK, "adapter_blocks": (2, 3), "adapter_on": ALL}),
    "dense": ("vit_micro", {**RANK, "adapter_blocks": (2, 3), "adapter_on": ("qkv", "proj", "fc1", "fc2")}),
    "qkv": ("vit_micro", {**RANK, "adapter_blocks": (1,), "adapter_on": ("qkv",)}),
    "projection": ("vit_micro", {**RANK, "adapter_blocks": (1,), "adapter_on": ("proj",)}),
    "first product": ("vit_micro", {**RANK, "adapter_blocks": (2,), "adapter_on": ("fc1",)}),
    "second product": ("vit_micro", {**RANK, "adapter_blocks": (3,), "adapter_on": ("fc2",)}),
    "beside": ("vit_micro", {**RANK, "adapter_blocks": (2,), "adapter_on": ("feed",)}),
    "gates that read the block's input": (
        "m3vit_micro",
        {**RANK, "adapter_blocks": (1, 3), "adapter_on": ALL, "gate_input": "block"},
    ),
    "branches": ("vit_micro", {**BRANCH, "adapter_blocks": (2, 3)}),
    "a branch, shared adapters": ("vit_micro", {**BRANCH, "adapter_blocks": (3,), "shared_rank": 2}),
    "all of it": ("m3lora_micro", {}),
}


@torch.no_grad()
def tokens(
    model: MultiTaskModel, images: Tensor, names: list[str], width: float = 1.0, index: list[int] | None = None
) -> Tensor:
    places = torch.tensor(index or [0] * len(names))
    return model.encode(images, places, names, torch.full((len(names),), model.config.top_k), width=width).tokens_BND


def merged(model: MultiTaskModel, task: str) -> MultiTaskModel:
    """The network without adapters whose weights hold a task's products: what they are to compute. Not for `feed`."""
    plain = copy.deepcopy(model)
    scale = model.config.adapter_scale
    for block in plain.encoder.blocks:
        weights = {"qkv": block.attn.qkv, "proj": block.attn.proj}
        weights |= {} if block.mlp is None else {"fc1": block.mlp.up, "fc2": block.mlp.down}
        for name in block.own:
            change = model.adapters[task][f"{block.site}_{name}"].product(scale).float()  # type: ignore[index]
            with torch.no_grad():
                weights[name] += change if name in ("qkv", "fc1") else change.T
                for adapter in plain.adapters.values():
                    adapter[f"{block.site}_{name}"].up.zero_()  # type: ignore[index]
    return plain


@pytest.mark.parametrize("kind", ["dense", "qkv", "projection", "first product", "second product"])
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_a_tasks_own_products_are_changes_of_the_weights(
    kind: str, width: float, make_model: Any, make_images: Any
) -> None:
    preset, settings = KINDS[kind]
    model, images, names = make_model(preset, **settings), make_images(1), ["semseg", "depth"]
    found = tokens(model, images, names, width)
    for row, task in enumerate(names):
        wanted = tokens(merged(model, task), images, [task], width)[0]
        torch.testing.assert_close(found[row], wanted, atol=2e-5, rtol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_call_equal_calls_of_their_own(kind: str, make_model: Any, make_images: Any) -> None:
    preset, settings = KINDS[kind]
    model, images = make_model(preset, **settings), make_images(2)
    names, index = ["semseg", "depth", "depth", "normals"], [1, 0, 1, 1]
    together = tokens(model, images, names, 0.5, index)
    for row, (task, image) in enumerate(zip(names, index, strict=True)):
        alone = tokens(model, images[image : image + 1], [task], 0.5)[0]
        torch.testing.assert_close(together[row], alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0.25, 0.75])
def test_narrowed_network_is_the_width_of_the_whole(kind: str, width: float, make_model: Any, make_images: Any) -> None:
    preset, settings = KINDS[kind]
    model, images, names = make_model(preset, **settings), make_images(1), ["semseg", "depth"]
    rows, cut = model.row_inputs(names, width), narrowed(model.encoder, width)
    index, top_k = torch.zeros(2, dtype=torch.long), torch.full((2,), model.config.top_k)
    with torch.no_grad():
        found = cut(images, index, top_k, rows.get("router"), rows.get("router_bias"), rows["adapter"]).tokens_BND
    torch.testing.assert_close(found, tokens(model, images, names, width), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_products_before_the_first_of_a_task_run_once_per_image(
    kind: str, fold: bool, make_model: Any, make_images: Any
) -> None:
    """Counted by torch, for two images and five rows."""
    preset, settings = KINDS[kind]
    model = make_model(preset, **settings)
    model = folded(model) if fold else model
    config, index, names = model.config, [0, 0, 1, 1, 1], ["depth"] * 5
    for width in (0.5, 1.0):
        total = counted(lambda width=width: tokens(model, make_images(2), names, width, index))
        for block in model.encoder.blocks:  # made from weights alone, and of what is trained only
            if block.experts is not None:
                total -= counted(lambda block=block, width=width: block.experts.views(width))
        total -= len(config.moe_blocks) * 2 * (5 * 5) * config.top_k * config.dim  # the weighted sums
        assert encoder_cost(config, width).flops(2, 5, config.top_k) == total, width
        held = sum(parameter.numel() for parameter in narrowed(model.encoder, width).parameters())
        assert encoder_cost(config, width).parameters == held


def test_late_products_share_more() -> None:
    """In a dense ViT whose last block alone is adapted, five rows cost little more than one."""
    from slimpath.models import preset_config

    def share(**settings: Any) -> float:
        cost = encoder_cost(preset_config("vit_small", TASKS, adapter_blocks=(10, 11), **RANK, **settings))
        return cost.flops_row / cost.flops(1, 1, 0)

    qkv, proj, fc2 = (share(adapter_on=(name,)) for name in ("qkv", "proj", "fc2"))
    branch = share(adapter_mode="branch", adapter_on=("proj", "fc1", "fc2"))
    assert branch < 0.01 < fc2 < proj < qkv < 0.2


def test_branches_are_mtloras(make_model: Any, make_images: Any) -> None:
    """A transcription of its last blocks, one task: the shared path on its own, what a branch adds beside it."""
    preset, settings = KINDS["branches"]
    model, image = make_model(preset, **settings), make_images(1)
    adapters, scale = model.adapters["depth"], model.config.adapter_scale

    def own(block: Any, name: str, given: Tensor) -> Tensor:
        adapter = adapters[f"{block.site}_{name}"]  # type: ignore[index]
        assert isinstance(adapter, LowRank)
        return scale * (given @ adapter.down @ adapter.up.T)

    with torch.no_grad():
        encoder = model.encoder
        shared = encoder.embed(image, encoder.detail(image, 1.0))[0]
        for block in encoder.blocks[:2]:
            shared = block.feed(block.attend(shared[None], 1.0), 1.0)[0]
        rows = shared
        for block in encoder.blocks[2:]:
            mixed = block.attn.mix(block.attn.lift(block.norm1(shared), 1.0), len(shared))
            attended = block.attn.project(mixed)
            shared, rows = shared + attended, rows + attended + own(block, "proj", mixed)
            lifted = block.norm2(shared) @ block.mlp.up.T + block.mlp.up_bias
            lowered = F.gelu(lifted) @ block.mlp.down + block.mlp.down_bias
            hidden = F.gelu(lifted + own(block, "fc1", block.norm2(rows)))
            shared, rows = shared + lowered, rows + lowered + own(block, "fc2", hidden)
    torch.testing.assert_close(tokens(model, image, ["depth"])[0], rows, atol=2e-5, rtol=1e-5)
    plain = make_model("vit_micro")
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "adapters." not in name})
    torch.testing.assert_close(shared, tokens(plain, image, ["depth"])[0], atol=2e-5, rtol=1e-5)
