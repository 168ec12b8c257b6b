"""Slimmable layers against the plain ones, and the promise that a narrow layer is a prefix of the full one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimpath.models.layers import InvertedBottleneck, SlimAttention, SlimMlp, linear_init, prefix
from slimpath.models.widths import kept

WIDTHS = (0.1, 0.25, 0.5, 0.75, 1.0)


def draw(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return layer


def layers() -> dict[str, tuple[nn.Module, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return {
        "mlp": (draw(SlimMlp(8, 12)), torch.randn(7, 8, generator=generator)),
        "attention": (draw(SlimAttention(12, 3)), torch.randn(2, 5, 12, generator=generator)),
        "bottleneck": (draw(InvertedBottleneck(4, 10)), torch.randn(2, 4, 5, 6, generator=generator)),
    }


@pytest.mark.parametrize("name", ["mlp", "attention", "bottleneck"])
@pytest.mark.parametrize("width", WIDTHS)
def test_narrow_layer_never_reads_beyond_its_prefix(name: str, width: float) -> None:
    layer, given = layers()[name]
    expected = layer(given, width)
    units = {"mlp": 12, "attention": 3, "bottleneck": 10}[name]
    for parameter_name, parameter in layer.named_parameters():
        rows = len(parameter)
        if parameter_name not in ("down_bias", "proj_bias"):  # the outputs are never slimmed
            parameter.data[rows * kept(units, width) // units :] = float("nan")
    assert torch.equal(layer(given, width), expected)
    assert expected.isfinite().all()


@pytest.mark.parametrize("name", ["mlp", "attention", "bottleneck"])
@pytest.mark.parametrize("width", WIDTHS)
def test_narrowed_layer_equals_the_full_one_at_that_width(name: str, width: float) -> None:
    layer, given = layers()[name]
    expected = layer(given, width)
    layer.narrow_(width)  # type: ignore[operator]
    # 1e-6: the same products; a library may choose another kernel by how the memory is aligned.
    torch.testing.assert_close(layer(given), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", WIDTHS)
def test_mlp_equals_a_plain_mlp_of_the_kept_units(width: float) -> None:
    layer, given = layers()["mlp"]
    assert isinstance(layer, SlimMlp)
    units = kept(12, width)
    hidden = F.gelu(given @ layer.up[:units].T + layer.up_bias[:units])
    torch.testing.assert_close(layer(given, width), hidden @ layer.down[:units] + layer.down_bias)


def test_attention_equals_torchs_multi_head_attention() -> None:
    layer, given = layers()["attention"]
    assert isinstance(layer, SlimAttention)
    plain = nn.MultiheadAttention(12, 3, batch_first=True)
    # Ours: [heads, 3, head_dim, in]; theirs: [3, heads, head_dim, in].
    plain.in_proj_weight.data = layer.qkv.detach().reshape(3, 3, 4, 12).transpose(0, 1).reshape(36, 12)
    plain.in_proj_bias.data = layer.qkv_bias.detach().reshape(3, 3, 4).transpose(0, 1).reshape(36)
    plain.out_proj.weight.data, plain.out_proj.bias.data = layer.proj.detach().T.contiguous(), layer.proj_bias.detach()
    expected, _ = plain(given, given, given, need_weights=False)
    torch.testing.assert_close(layer(given), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", WIDTHS)
def test_bottleneck_equals_plain_convolutions_of_the_kept_units(width: float) -> None:
    layer, given = layers()["bottleneck"]
    assert isinstance(layer, InvertedBottleneck)
    units = kept(10, width)
    hidden = F.relu(F.conv2d(given, layer.up[:units], layer.up_bias[:units]))
    hidden = F.relu(F.conv2d(hidden, layer.depthwise[:units], layer.depthwise_bias[:units], padding=1, groups=units))
    expected = given + F.conv2d(hidden, layer.down[:units].transpose(0, 1), layer.down_bias)
    torch.testing.assert_close(layer(given, width), expected, rtol=1e-5, atol=1e-5)


def test_fresh_bottleneck_passes_its_input_through() -> None:
    given = torch.randn(1, 4, 3, 3)
    assert torch.equal(InvertedBottleneck(4, 8)(given), given)


def test_full_prefix_is_the_parameter_itself() -> None:
    parameter = nn.Parameter(torch.randn(4, 2))
    assert prefix(parameter, 4) is parameter
    assert prefix(parameter, 3).data_ptr() == parameter.data_ptr()
    assert prefix(parameter, 3).is_contiguous()


def test_fresh_weights_stay_within_two_standard_deviations() -> None:
    weight = linear_init(200, 200)
    assert weight.abs().max() <= 0.04
    # Cutting a normal off at two of its 0.02 leaves 0.88 of them.
    assert weight.std().item() == pytest.approx(0.0176, rel=0.05)
