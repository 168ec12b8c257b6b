"""The whole network: rows, tasks, widths, top_k, training, other sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slimpath.models import ConfigError, MultiTaskModel, activate
from slimpath.models.encoder import narrowed

# Same arithmetic on another number of rows: sums may be ordered otherwise. Values are of order 1.
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
MIXED = ["depth", "semseg", "scene", "depth", "edge", "normals"]


def test_mixed_task_batch_equals_single_runs(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    images = make_images(len(MIXED))
    mixed = model(images, MIXED)
    assert {task: rows.tolist() for task, rows in mixed.rows.items()} == {
        "depth": [0, 3],
        "semseg": [1],
        "scene": [2],
        "edge": [4],
        "normals": [5],
    }
    for task, rows in mixed.rows.items():
        for place, row in enumerate(rows.tolist()):
            alone = model(images[row : row + 1], [task])
            torch.testing.assert_close(mixed.raw[task][place], alone.raw[task][0], **TOLERANCE)
            torch.testing.assert_close(mixed.tokens_BND[row], alone.tokens_BND[0], **TOLERANCE)


def test_routing_of_a_row_does_not_depend_on_its_batch_mates(
    model: MultiTaskModel, make_images: Callable[..., Tensor]
) -> None:
    images = make_images(3)
    first = model(images, ["depth", "edge", "semseg"]).features.routings
    second = model(torch.cat([images[:1], make_images(2, seed=5)]), ["depth", "scene", "depth"]).features.routings
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.expert_BNK[0], other.expert_BNK[0])


def test_tasks_of_one_image_are_routed_differently(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    routings = model(make_images(1), ["depth", "edge"], image_index_B=torch.tensor([0, 0])).features.routings
    assert not torch.equal(routings[0].expert_BNK[0], routings[0].expert_BNK[1])


def test_top_k_per_row_equals_single_runs(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    images = make_images(3)
    mixed = model(images, ["depth"] * 3, top_k=torch.tensor([1, 2, 1])).raw["depth"]
    for row, top_k in enumerate((1, 2, 1)):
        alone = model(images[row : row + 1], ["depth"], top_k=top_k).raw["depth"]
        torch.testing.assert_close(mixed[row], alone[0], **TOLERANCE)
    assert not torch.allclose(mixed[0], model(images[:1], ["depth"], top_k=2).raw["depth"][0], **TOLERANCE)


def test_configured_top_k_is_the_default(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    default, given = (model(make_images(1), ["depth"], top_k=top_k).raw["depth"] for top_k in (None, 2))
    assert torch.equal(default, given)


@pytest.mark.parametrize("name", ["m3vit_micro", "vit_micro"])
@pytest.mark.parametrize("width", [0.1, 0.25, 0.5, 0.75, 1.0])
def test_narrowed_model_equals_the_full_one_at_that_width(
    name: str, width: float, make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    model, images = make_model(name), make_images(2)
    wide, narrow = model(images, ["semseg", "scene"], width=width), narrowed(model, width)(images, ["semseg", "scene"])
    for task in wide.raw:
        # 1e-6: the same products; a library may choose another kernel by how the memory is aligned.
        torch.testing.assert_close(narrow.raw[task], wide.raw[task], rtol=1e-6, atol=1e-6)


def test_no_narrow_answer_reads_beyond_its_prefix(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    names, images = ["semseg", "scene"], make_images(2)
    expected = model(images, names, width=0.5).raw
    kept = {name: value.shape[0] for name, value in narrowed(model, 0.5).named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.data[kept[name] :] = float("nan")
    found = model(images, names, width=0.5).raw
    assert all(torch.equal(found[name], expected[name]) for name in names)
    assert not model(images, names).raw["semseg"].isfinite().any()


def test_decoder_width_is_the_encoders_unless_given(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    images = make_images(1)
    narrow = model(images, ["depth"], width=0.5)
    both = model(images, ["depth"], width=0.5, decoder_width=0.5)
    wider = model(images, ["depth"], width=0.5, decoder_width=1.0)
    assert torch.equal(narrow.raw["depth"], both.raw["depth"])
    assert torch.equal(narrow.tokens_BND, wider.tokens_BND)
    by_hand = model.heads["depth"](wider.tokens_BND, wider.features.detail_ICHW, 1.0)
    assert torch.equal(wider.raw["depth"], by_hand)
    assert not torch.allclose(narrow.raw["depth"], wider.raw["depth"], **TOLERANCE)


def test_dense_model_has_no_routers_and_ignores_top_k(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    model = make_model("vit_micro").train()
    assert len(model.routers) == 0
    assert model.stacked_routers(["depth"]) == (None, None)
    plain, given = (model(make_images(1), ["depth"], top_k=top_k) for top_k in (None, 99))
    assert torch.equal(plain.raw["depth"], given.raw["depth"])
    assert plain.balance_loss.item() == 0.0


def test_stacked_routers_follow_the_rows(model: MultiTaskModel) -> None:
    weight, bias = model.stacked_routers(["edge", "depth", "edge"])
    assert weight is not None and bias is not None
    assert (weight.shape, bias.shape) == ((3, 2, 32, 4), (3, 2, 4))
    for row, task in enumerate(["edge", "depth", "edge"]):
        router: Any = model.routers[task]
        for level in range(2):
            assert torch.equal(weight[row, level], router.weight[level])
            assert torch.equal(bias[row, level], router.bias[level])


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["depth", "boxes"], {}, "unknown task 'boxes'; this model has semseg, depth"),
        (["depth"], {}, "expected one task per row, got 1 tasks for 2 rows"),
        (["depth"] * 3, {}, "several tasks of one image need image_index_B"),
        (["depth"] * 3, {"image_index_B": torch.tensor([0, 1])}, "got 3 tasks for 2 rows"),
        ([], {}, "expected one task per row, got 0 tasks"),
        (["depth"] * 2, {"top_k": 3}, "top_k must lie in 1..2, got 3"),
        (["depth"] * 2, {"top_k": 0}, "top_k must lie in 1..2, got 0"),
        (["depth"] * 2, {"top_k": torch.tensor([1, 5])}, "top_k must lie in 1..2, got [1, 5]"),
        (["depth"] * 2, {"top_k": torch.tensor([1, 1, 1])}, "one number or one per row (2), got shape (3,)"),
        (["depth"] * 2, {"width": 0.0}, "a width is a share in (0, 1], got 0.0"),
        (["depth"] * 2, {"decoder_width": 0.0}, "a width is a share in (0, 1], got 0.0"),
    ],
)
def test_impossible_call_is_refused_with_expected_and_got(
    names: list[str],
    options: dict[str, Any],
    message: str,
    model: MultiTaskModel,
    make_images: Callable[..., Tensor],
) -> None:
    with pytest.raises(ConfigError) as caught:
        model(make_images(2), names, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3, 48, 32), (1, 1, 32, 32), (3, 32, 32)])
def test_image_of_another_shape_is_refused_with_expected_and_got(model: MultiTaskModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        model(torch.zeros(shape), ["depth"])
    assert f"image must be [I, 3, (32, 32)], got {shape}" in str(caught.value)


# Training


def test_router_noise_comes_in_training_only(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    model, images = make_model(), make_images(1)

    def logits() -> Tensor:
        return model(images, ["depth"]).features.routings[0].logits_BNE

    assert torch.equal(logits(), logits())
    still = logits()
    model.train()
    assert not torch.equal(logits(), logits())
    quiet = make_model(router_noise=0.0).train()
    assert torch.equal(quiet(images, ["depth"]).features.routings[0].logits_BNE, still)


def test_router_noise_is_the_configured_one_over_the_number_of_experts(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    model = make_model(router_noise=2.0).train()
    for parameter in model.routers.parameters():
        parameter.data.zero_()
    torch.manual_seed(0)
    logits = model(make_images(100), ["depth"] * 100).features.routings[0].logits_BNE
    assert logits.std().item() == pytest.approx(2.0 / 4, rel=0.1)  # 2,000 draws: 1.6 % expected


def test_balance_loss_is_0_in_evaluation(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    assert model(make_images(1), ["depth"]).balance_loss.item() == 0.0
    assert model.train()(make_images(1), ["depth"]).balance_loss.item() > 0.0


def test_every_parameter_gets_a_gradient(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    names = list(model.config.task_names)
    torch.manual_seed(0)
    out = model.train()(make_images(8).repeat_interleave(5, dim=0), names * 8)
    loss = out.balance_loss + sum((activate(model.config.task(t).kind, raw) ** 2).mean() for t, raw in out.raw.items())
    loss.backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_task_does_not_train_the_others_routers_and_heads(
    model: MultiTaskModel, make_images: Callable[..., Tensor]
) -> None:
    model.train()(make_images(1), ["depth"]).raw["depth"].sum().backward()
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained & set(model.config.task_names) == {"depth"}


def test_bf16_autocast_trains_and_keeps_the_routers_in_fp32(
    model: MultiTaskModel, make_images: Callable[..., Tensor]
) -> None:
    names, images = ["semseg", "scene", "depth"], make_images(3)
    exact = model(images, names)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(images, names)
    # 8 bits of mantissa through 4 blocks; a flipped expert would show here as a difference of order 1 in a few tokens.
    difference = (rounded.tokens_BND - exact.tokens_BND).abs().median().item()
    assert 0.0 < difference < 0.05 * exact.tokens_BND.abs().mean().item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model.train()(images, names, width=0.5)
        loss = sum((raw.float() ** 2).mean() for raw in out.raw.values()) + out.balance_loss
    assert out.raw["semseg"].dtype == torch.bfloat16
    for routing in out.features.routings:
        assert {routing.logits_BNE.dtype, routing.weight_BNK.dtype} == {torch.float32}
    assert isinstance(loss, Tensor)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or (parameter.grad.isfinite().all() and parameter.grad.dtype == torch.float32), (
            name
        )


# Other sizes


def test_resized_to_the_same_size_is_an_independent_equal(
    model: MultiTaskModel, make_images: Callable[..., Tensor]
) -> None:
    before = torch.get_rng_state()
    same = model.resized((32, 32))
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn
    assert same.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(same.state_dict()[name], value)
        assert same.state_dict()[name].data_ptr() != value.data_ptr()
    assert torch.equal(same(make_images(1), ["depth"]).raw["depth"], model(make_images(1), ["depth"]).raw["depth"])


def test_resized_changes_the_grid_of_positions_only(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    larger = model.resized((48, 64))
    assert larger.config.image_hw == (48, 64)
    assert larger.encoder.position.shape == (1, 1 + 3 * 4, 32)
    assert torch.equal(larger.encoder.position[:, 0], model.encoder.position[:, 0])
    changed = [n for n, v in model.state_dict().items() if larger.state_dict()[n].shape != v.shape]
    assert changed == ["encoder.position"]
    assert larger(make_images(1, (48, 64)), ["depth"]).raw["depth"].shape == (1, 1, 48, 64)
    assert all(parameter.requires_grad for parameter in larger.parameters())


def test_resized_keeps_mode_and_precision(model: MultiTaskModel) -> None:
    assert model.train().resized((48, 32)).training
    assert not model.eval().resized((48, 32)).training
    assert model.double().resized((48, 32)).encoder.position.dtype == torch.float64


def test_resized_refuses_what_is_no_multiple_of_the_patch(model: MultiTaskModel) -> None:
    with pytest.raises(ConfigError, match=r"multiples of the patch 16, got \(40, 32\)"):
        model.resized((40, 32))
