"""Decoders after TaskExpert: their formulas in plain numpy, what is shared and what is not, widths, taps, training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slimpath.models import HeadConfig, MultiTaskModel
from slimpath.models.encoder import narrowed
from slimpath.models.model import SHARED_PARTS
from slimpath.models.taskexpert import TaskExpertHead

from .test_reference import Array, Weights, bottleneck, double, feed_forward, keep, norm, softmax

BACKBONES = ("vit", "m3vit", "swin", "mtlora")
TASKS = (HeadConfig("semseg", "classes", 5), HeadConfig("depth", "depth", 1), HeadConfig("scene", "image_classes", 4))

Build = Callable[..., MultiTaskModel]


@pytest.fixture(params=BACKBONES)
def model(request: pytest.FixtureRequest, make_model: Build) -> MultiTaskModel:
    return make_model(f"taskexpert_{request.param}_micro", tasks=TASKS)


def features_of(model: MultiTaskModel, task: str, rows: int = 1, seed: int = 3) -> tuple[Tensor, ...]:
    """Tokens of every tapped layer, the last one last, and detail."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(rows, 3, *model.config.image_hw, generator=generator)
    with torch.no_grad():
        seen = model.encode(images, torch.arange(rows), [task] * rows, torch.ones(rows, dtype=torch.long))
    assert seen.detail_ICHW is not None
    return (*seen.levels, seen.tokens_BND, seen.detail_ICHW)


def head_of(model: MultiTaskModel, task: str) -> Any:
    head = model.heads[task]
    assert isinstance(head, TaskExpertHead)
    return head


def remembered(model: MultiTaskModel, task: str, layers: tuple[Tensor, ...], width: float = 1.0) -> Tensor:
    with torch.no_grad():
        return head_of(model, task).remember(layers, width, model.decoder_experts)


def enlarged(x: Array, size: tuple[int, int]) -> Array:
    """Bilinear; pixel centres lie at half steps, beyond the border its value is held."""
    for axis, wanted in zip((1, 2), size):
        count = x.shape[axis]
        places = np.clip((np.arange(wanted) + 0.5) * count / wanted - 0.5, 0, count - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape([-1 if a == axis else 1 for a in range(3)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, count - 1), axis) * share
    return x


def memory_in_numpy(
    model: MultiTaskModel, w: Weights, task: str, layers: list[Array], grids: list[tuple[int, int]], width: float
) -> Array:
    """The memory after the last layer, pixel by pixel, from the formulas at the head of models/taskexpert.py."""
    config, name, (height, side) = model.config, f"heads.{task}", grids[0]
    units = keep(config.decoder_expert_hidden, width)
    written = config.decoder_hidden * (1 if config.family == "swin" else 2)
    memory = np.repeat(w[f"{name}.start"], height * side).reshape(-1, height, side)
    for layer, (tokens, (rows, columns)) in enumerate(zip(layers, grids, strict=True)):
        x = norm_of(config.family, tokens, w, f"decoder_experts.norms.{layer}")
        gate = {part: w[f"{name}.gates.{layer}.{part}"] for part in ("token", "image", "memory", "bias")}
        mixed, step = np.zeros((len(memory), rows, columns)), height // rows
        for y in range(rows):
            for z in range(columns):
                own = x[y * columns + z]
                read = memory[:, y * step : (y + 1) * step, z * step : (z + 1) * step].mean((1, 2))
                logits = gate["token"] @ own + gate["image"] @ x.mean(0) + gate["memory"] @ read + gate["bias"]
                score = softmax(logits)
                assert len(score) == config.decoder_experts + 1
                for expert in range(config.decoder_experts):
                    site = f"decoder_experts.layers.{layer}.{expert}"
                    parameters = [w[f"{site}.{part}"] for part in ("up", "up_bias", "down", "down_bias")]
                    mixed[:, y, z] += score[expert] * feed_forward(own[None], parameters, units)[0]
                mixed[:, y, z] += score[-1] * read
        raised = memory + enlarged(mixed, (height, side))
        memory = bottleneck(raised, w, f"{name}.writes.{layer}", written, width)
    return memory


def norm_of(family: str, tokens: Array, w: Weights, name: str) -> Array:
    patches = tokens if family == "swin" else tokens[1:]  # a ViT's class token comes first
    return norm(patches, w, name)


def ending_in_numpy(model: MultiTaskModel, w: Weights, task: str, memory: Array, detail: Array, width: float) -> Array:
    name, hidden = f"heads.{task}", model.config.decoder_hidden
    if model.config.family == "vit":
        memory = bottleneck(double(memory), w, f"{name}.middle", hidden, width)
    stream = double(memory) + np.einsum("oc,chw->ohw", w[f"{name}.detail.weight"][:, :, 0, 0], detail)
    stream = stream + w[f"{name}.detail.bias"][:, None, None]
    for block in range(2):
        stream = bottleneck(stream, w, f"{name}.fine.{block}", hidden, width)
    out = np.einsum("oc,chw->ohw", w[f"{name}.out.weight"][:, :, 0, 0], np.maximum(stream, 0))
    out = out + w[f"{name}.out.bias"][:, None, None]
    channels, height, side = out.shape
    finer = out.reshape(channels // 4, 2, 2, height, side).transpose(0, 3, 1, 4, 2)
    return double(finer.reshape(channels // 4, 2 * height, 2 * side))


@pytest.mark.parametrize("width", [0.6, 1.0])
def test_memory_and_answer_equal_plain_numpy(model: MultiTaskModel, width: float) -> None:
    config = model.config
    *layers, detail = features_of(model, "semseg")
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    height, side = config.image_hw
    strides = (8, 16, 32, 32) if config.family == "swin" else (16,) * 4
    plain = [tokens[0].double().numpy() for tokens in layers]
    grids = [(height // stride, side // stride) for stride in strides]
    memory = memory_in_numpy(model, w, "semseg", plain, grids, width)
    np.testing.assert_allclose(remembered(model, "semseg", tuple(layers), width)[0], memory, atol=2e-5, rtol=2e-5)
    expected = ending_in_numpy(model, w, "semseg", memory, detail[0].double().numpy(), width)
    with torch.no_grad():
        found = model.raw("semseg", layers[-1], detail, width, tuple(layers[:-1]))
    np.testing.assert_allclose(found[0], expected, atol=5e-5, rtol=5e-5)


def test_scores_of_experts_and_memory_add_up_to_1_and_follow_token_image_and_memory(model: MultiTaskModel) -> None:
    torch.manual_seed(0)
    gate, dim = head_of(model, "depth").gates[0], model.decoder_experts.norms[0].normalized_shape[0]
    normed_RND, read_TC = torch.randn(2, 3, dim), torch.randn(6, model.config.decoder_channels)
    score_TE = gate(normed_RND, read_TC)
    assert score_TE.shape == (6, model.config.decoder_experts + 1) and (score_TE > 0).all()
    torch.testing.assert_close(score_TE.sum(1), torch.ones(6))
    other = normed_RND.clone()
    other[0, 1] += torch.randn(dim)
    moved = (gate(other, read_TC) - score_TE).abs().amax(1) > 1e-4
    assert moved.tolist() == [True] * 3 + [False] * 3  # through the mean, every token of that image; no other image
    later = read_TC.clone()
    later[4] += 1.0
    assert ((gate(normed_RND, later) - score_TE).abs().amax(1) > 1e-4).tolist() == [False] * 4 + [True, False]


def test_every_tapped_layer_is_written_to_the_memory_and_read_by_the_next(model: MultiTaskModel) -> None:
    torch.manual_seed(0)
    layers = features_of(model, "depth")[:-1]
    before = remembered(model, "depth", layers)
    assert len(layers) == 4
    for layer, tokens in enumerate(layers):
        changed = (*layers[:layer], tokens + torch.randn(tokens.shape[-1]), *layers[layer + 1 :])
        assert not torch.allclose(remembered(model, "depth", changed), before, atol=1e-3), layer
    head = head_of(model, "depth")
    for gate in head.gates:  # with all of a gate's score on the memory, a layer adds what it has read
        with torch.no_grad():
            gate.bias.copy_(torch.tensor([-1e4] * model.config.decoder_experts + [1e4]))
    with torch.no_grad():
        for write in head.writes:
            write.down.zero_()
            write.down_bias.zero_()
    expected = 2.0**4 * head.start.detach()[:, :, None, None].expand_as(before)
    torch.testing.assert_close(remembered(model, "depth", layers), expected)


def test_experts_are_one_set_for_all_tasks_and_gates_are_each_tasks_own(model: MultiTaskModel) -> None:
    layers = features_of(model, "depth")[:-1]

    def answers() -> dict[str, Tensor]:
        return {task: remembered(model, task, layers) for task in ("semseg", "depth")}

    before = answers()
    with torch.no_grad():
        head_of(model, "depth").gates[1].bias[0] += 2.0
    gated = answers()
    assert torch.equal(gated["semseg"], before["semseg"]) and not torch.allclose(gated["depth"], before["depth"])
    with torch.no_grad():
        model.decoder_experts.layers[1][0].down_bias += 1.0
    changed = answers()
    assert all(not torch.allclose(changed[task], gated[task], atol=1e-3) for task in before)
    names = [name for name in model.state_dict() if name.startswith("decoder_experts.")]
    assert len(names) == 4 * (2 + 4 * model.config.decoder_experts)
    owners = {name.split(".")[0] for name in model.state_dict() if not name.startswith(SHARED_PARTS)}
    assert owners <= {"heads", "routers", "adapters"}


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
def test_narrow_decoder_is_a_prefix_of_the_wide_one(model: MultiTaskModel, width: float) -> None:
    *layers, detail = features_of(model, "semseg")
    with torch.no_grad():
        expected = model.raw("semseg", layers[-1], detail, width, tuple(layers[:-1]))
        assert not torch.allclose(expected, model.raw("semseg", layers[-1], detail, 1.0, tuple(layers[:-1])))
        cut = narrowed(model.heads["semseg"], width)(
            layers[-1], detail, 1.0, tuple(layers[:-1]), narrowed(model.decoder_experts, width)
        )
    torch.testing.assert_close(cut, expected, rtol=1e-5, atol=1e-5)
    for part in (model.heads["semseg"], model.decoder_experts):
        whole, slimmed = dict(part.named_parameters()), 0
        for name, narrow in narrowed(part, width).named_parameters():
            wide = whole[name].detach()
            assert torch.equal(narrow, wide[: len(narrow)]) and narrow.shape[1:] == wide.shape[1:], name
            slimmed += len(narrow) < len(wide)
        assert slimmed > 0


def test_loss_falls_and_gradients_reach_experts_gates_and_memory(model: MultiTaskModel) -> None:
    torch.manual_seed(0)
    images, index = torch.randn(2, 3, *model.config.image_hw), torch.tensor([0, 1])
    target = torch.nn.functional.avg_pool2d(images[:, :1], 4, 1, 2)[..., :-1, :-1]
    optimizer, losses = torch.optim.AdamW(model.train().parameters(), lr=3e-3), []
    for _ in range(12):
        raw = model(images, ["depth", "depth"], image_index_B=index).raw["depth"]
        loss = (raw - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    head = dict(model.heads["depth"].named_parameters())
    experts = dict(model.decoder_experts.named_parameters())
    for name, parameter in {**head, **experts}.items():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert {"start", "gates.0.memory", "gates.3.image", "writes.2.up"} <= head.keys()
    assert all(parameter.grad is None for parameter in model.heads["semseg"].parameters())
