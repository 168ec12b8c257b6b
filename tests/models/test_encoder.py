"""Tokens: their order, the prefix that rows share, positions at other sizes, export's operator."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slimpath.models import MultiTaskModel
from slimpath.models.encoder import Encoder, narrowed, resample_position

TASK_OF_ROW = ["semseg", "depth", "edge"]


def test_class_token_comes_first_and_patches_follow_row_by_row(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    encoder = make_model(image_hw=(32, 48), detail_channels=0).encoder  # the stem looks over the rim of a patch
    image = make_images(1, (32, 48))
    before = encoder.embed(image)
    assert before.shape == (1, 1 + 2 * 3, 32)
    assert torch.equal(before[0, 0], (encoder.class_token + encoder.position[:, :1])[0, 0])
    for row in range(2):
        for column in range(3):
            changed = image.clone()
            changed[0, 1, 16 * row + 5, 16 * column + 7] += 1.0
            tokens = (encoder.embed(changed) != before).any(dim=-1)[0].nonzero().flatten().tolist()
            assert tokens == [1 + row * 3 + column]


def rows_seen(encoder: Encoder) -> list[int]:
    """How many rows each block's attention works on, filled in by the next run."""
    seen: list[int] = []
    for block in encoder.blocks:
        norm = block.norm1
        assert isinstance(norm, nn.Module)
        norm.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))
    return seen


def test_everything_before_the_first_routing_runs_once_per_image(
    model: MultiTaskModel, make_images: Callable[..., Tensor]
) -> None:
    seen = rows_seen(model.encoder)
    model(make_images(2), TASK_OF_ROW, image_index_B=torch.tensor([0, 0, 1]))
    assert seen == [2, 2, 3, 3]  # experts in blocks 1 and 3: the attention of block 1 still belongs to the images


def test_dense_encoder_runs_once_per_image(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    model = make_model("vit_micro")
    seen = rows_seen(model.encoder)
    out = model(make_images(1), TASK_OF_ROW, image_index_B=torch.tensor([0, 0, 0]))
    assert seen == [1, 1, 1, 1]
    assert torch.equal(out.tokens_BND[0], out.tokens_BND[2])


@pytest.mark.parametrize("moe_blocks", [(0,), (1, 3), (3,), (0, 1, 2, 3)])
def test_rows_of_one_image_equal_separate_images(
    moe_blocks: tuple[int, ...], make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    model = make_model(moe_blocks=moe_blocks)
    image = make_images(1)
    shared = model(image, TASK_OF_ROW, image_index_B=torch.tensor([0, 0, 0]))
    separate = model(image.expand(3, -1, -1, -1), TASK_OF_ROW)
    # 1e-5: the prefix is the same arithmetic, on fewer rows, so a product may be summed in another order.
    torch.testing.assert_close(shared.tokens_BND, separate.tokens_BND, rtol=1e-5, atol=1e-5)
    for task in TASK_OF_ROW:
        torch.testing.assert_close(shared.raw[task], separate.raw[task], rtol=1e-5, atol=1e-5)


def test_image_index_picks_the_image_of_each_row(model: MultiTaskModel, make_images: Callable[..., Tensor]) -> None:
    images = make_images(3)
    picked = model(images, ["depth"] * 4, image_index_B=torch.tensor([2, 0, 0, 1])).raw["depth"]
    alone = torch.cat([model(images[i : i + 1], ["depth"]).raw["depth"] for i in (2, 0, 0, 1)])
    torch.testing.assert_close(picked, alone, rtol=1e-5, atol=1e-5)


def test_dense_encoder_ignores_routers(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    encoder = make_model("vit_micro").encoder
    image, index = make_images(2), torch.tensor([0, 1])
    plain = encoder(image, index)
    given = encoder(image, index, torch.tensor([9, 9]), torch.full((2, 0, 32, 4), 1.0), torch.full((2, 0, 4), 1.0))
    assert torch.equal(plain.tokens_BND, given.tokens_BND)
    assert plain.routings == []


def test_model_without_detail_has_none(
    make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor]
) -> None:
    model = make_model(detail_channels=0)
    out = model(make_images(1), ["depth"])
    assert out.features.detail_ICHW is None
    assert out.raw["depth"].shape == (1, 1, 32, 32)


def test_detail_is_at_a_quarter_of_the_size_once_per_image(
    model: MultiTaskModel, make_images: Callable[..., Tensor]
) -> None:
    out = model(make_images(2), TASK_OF_ROW, image_index_B=torch.tensor([0, 1, 1]))
    assert out.features.detail_ICHW.shape == (2, 8, 8, 8)


# Positions


def test_resampling_to_the_same_grid_changes_nothing() -> None:
    position = torch.randn(1, 1 + 6, 4)
    same = resample_position(position, (2, 3), (2, 3))
    assert torch.equal(same, position)
    assert same.data_ptr() != position.data_ptr()


def test_resampling_keeps_the_class_slot_and_interpolates_the_grid() -> None:
    position = torch.zeros(1, 1 + 4, 1)
    position[0, :, 0] = torch.tensor([9.0, 0.0, 4.0, 8.0, 12.0])  # class slot, then rows (0, 4) and (8, 12)
    found = resample_position(position, (2, 2), (4, 2))
    # Twice as many rows: their centres lie at -1/4, 1/4, 3/4 and 5/4 of the old ones, the outer ones held at the edge.
    expected = [9.0, 0.0, 4.0, 2.0, 6.0, 6.0, 10.0, 8.0, 12.0]
    np.testing.assert_allclose(found[0, :, 0].numpy(), expected, atol=1e-6)


# Narrow copies


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.0])
def test_narrowed_parameters_are_byte_prefixes_slimmed_in_one_dimension_only(
    model: MultiTaskModel, width: float
) -> None:
    full, narrow = dict(model.named_parameters()), dict(narrowed(model, width).named_parameters())
    assert narrow.keys() == full.keys()
    slimmed = 0
    for name, parameter in narrow.items():
        whole = full[name]
        assert parameter.shape[1:] == whole.shape[1:], name
        assert parameter.is_contiguous(), name
        slimmed += parameter.shape != whole.shape
        data = parameter.detach().numpy().tobytes()
        assert whole.detach().numpy().tobytes()[: len(data)] == data, name
    assert (slimmed > 0) == (width < 1)


def test_residual_stream_and_routers_are_never_slimmed(model: MultiTaskModel) -> None:
    full, narrow = dict(model.named_parameters()), dict(narrowed(model, 0.25).named_parameters())
    slimmed = {
        name.rsplit(".", 1)[0] if name[-1].isdigit() else name
        for name in full
        if full[name].shape != narrow[name].shape
    }
    endings = ("up", "up_bias", "down", "qkv", "qkv_bias", "proj", "depthwise", "depthwise_bias")
    assert {name.rsplit(".", 1)[1] for name in slimmed} == set(endings)
    assert not any(name.startswith("routers") for name in slimmed)


def test_narrowing_leaves_the_original_alone(model: MultiTaskModel) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    narrowed(model, 0.25)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


# Export


class Flat(nn.Module):
    """The encoder with tensors only, as the exporter sees it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, image: Tensor, index: Tensor, top_k: Tensor, router: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        features = self.encoder(image, index, top_k, router, bias)
        return features.tokens_BND, features.detail_ICHW


def test_exported_encoder_has_one_operator_per_moe_block_and_the_same_answers(
    model: MultiTaskModel, make_images: Callable[..., Tensor]
) -> None:
    router, bias = model.stacked_routers(TASK_OF_ROW)
    assert router is not None and bias is not None
    arguments = (make_images(2), torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), router.detach(), bias.detach())
    flat = Flat(narrowed(model.encoder, 0.5)).requires_grad_(False)
    program = torch.export.export(flat, arguments, strict=False)
    targets = [str(node.target) for node in program.graph.nodes]
    assert sum("slimpath.expert_ffn" in target for target in targets) == 2
    for found, expected in zip(program.module()(*arguments), flat(*arguments), strict=True):
        # 1e-5: attention is written out as two products instead of one fused kernel.
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
