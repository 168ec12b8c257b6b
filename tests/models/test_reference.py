"""The whole forward pass once more, in plain numpy and float64, written from the description of the network.

Nothing of the package computes here: only parameters are taken over, by name. Loops where loops are the plainest.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from slimpath.models import MultiTaskModel, activate

Array = np.ndarray
Weights = dict[str, Array]

# float32 through 4 blocks and a head, measured 3e-6; a mistake shows as a difference of order 1.
TOLERANCE = 5e-5


def keep(units: int, width: float) -> int:
    return max(1, math.ceil(Fraction(str(width)) * units))


def norm(x: Array, w: Weights, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Array) -> Array:
    return x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def patches(image: Array, size: int) -> Array:
    """Non-overlapping squares, row by row, each flattened as (channel, y, x)."""
    _, height, width = image.shape
    squares = [
        image[:, y : y + size, x : x + size].ravel() for y in range(0, height, size) for x in range(0, width, size)
    ]
    return np.stack(squares)


def attention(x: Array, w: Weights, name: str, heads: int, head_dim: int) -> Array:
    """qkv is stored head by head: query, key and value rows of head 0, then those of head 1, ..."""
    qkv, qkv_bias, proj = w[f"{name}.qkv"], w[f"{name}.qkv_bias"], w[f"{name}.proj"]
    out = np.tile(w[f"{name}.proj_bias"], (len(x), 1))
    for head in range(heads):
        rows = [slice((3 * head + part) * head_dim, (3 * head + part + 1) * head_dim) for part in range(3)]
        query, key, value = (x @ qkv[row].T + qkv_bias[row] for row in rows)
        mixed = softmax(query @ key.T / math.sqrt(head_dim)) @ value
        out = out + mixed @ proj[head * head_dim : (head + 1) * head_dim]
    return out


def feed_forward(x: Array, parameters: list[Array], units: int) -> Array:
    up, up_bias, down, down_bias = parameters
    return gelu(x @ up[:units].T + up_bias[:units]) @ down[:units] + down_bias


def mixture(x: Array, w: Weights, block: int, level: int, task: str, top_k: int, units: int) -> tuple[Array, float]:
    """Each token visits its top_k experts, weighted by their share of a softmax over all; also the smallest gap."""
    names = [f"encoder.blocks.{block}.experts.{part}" for part in ("up", "up_bias", "down", "down_bias")]
    shares = softmax(x @ w[f"routers.{task}.weight.{level}"] + w[f"routers.{task}.bias.{level}"])
    out, gap = np.zeros_like(x), np.inf
    for token in range(len(x)):
        order = np.argsort(-shares[token])
        gap = min(gap, float(np.log(shares[token, order[top_k - 1]] / shares[token, order[top_k]])))
        for expert in order[:top_k]:
            parameters = [w[f"{name}.{expert}"] for name in names]
            out[token] += shares[token, expert] * feed_forward(x[token], parameters, units)
    return out, gap


def bottleneck(x: Array, w: Weights, name: str, full: int, width: float) -> Array:
    """1x1 up, ReLU, depthwise 3x3 with a border of zeros, ReLU, 1x1 down, added to the input."""
    units = keep(full, width)
    up, depthwise, down = (w[f"{name}.{part}"][:units] for part in ("up", "depthwise", "down"))
    hidden = np.einsum("uc,chw->uhw", up[:, :, 0, 0], x) + w[f"{name}.up_bias"][:units, None, None]
    padded = np.pad(np.maximum(hidden, 0), ((0, 0), (1, 1), (1, 1)))
    _, height, side = hidden.shape
    summed = np.zeros_like(hidden) + w[f"{name}.depthwise_bias"][:units, None, None]
    for dy in range(3):
        for dx in range(3):
            summed += depthwise[:, 0, dy, dx][:, None, None] * padded[:, dy : dy + height, dx : dx + side]
    lowered = np.einsum("uc,uhw->chw", down[:, :, 0, 0], np.maximum(summed, 0))
    return x + lowered + w[f"{name}.down_bias"][:, None, None]


def double(x: Array) -> Array:
    """Bilinear to twice the size; pixel centres lie at half steps, beyond the border its value is held."""
    for axis in (1, 2):
        count = x.shape[axis]
        places = np.clip((np.arange(2 * count) + 0.5) / 2 - 0.5, 0, count - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, count - 1)
        share = (places - low).reshape([-1 if a == axis else 1 for a in range(3)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def encode(
    model: MultiTaskModel, w: Weights, image: Array, task: str, width: float, top_k: int
) -> tuple[Array, Array, float]:
    """Tokens and detail of one image for one task, and the smallest gap between a visited and a passed-over expert."""
    config, prefix = model.config, "encoder"
    heads, head_dim = keep(config.heads, width), config.dim // config.heads
    channels, grid = config.detail_channels, (image.shape[1] // 4, image.shape[2] // 4)
    stem = patches(image, 4) @ w[f"{prefix}.detail.embed.weight"].reshape(channels, -1).T
    detail = (stem + w[f"{prefix}.detail.embed.bias"]).T.reshape(channels, *grid)
    for block in range(2):
        detail = bottleneck(detail, w, f"{prefix}.detail.blocks.{block}", config.detail_hidden, width)
    embedded = patches(image, 16) @ w[f"{prefix}.patch_embed.weight"].reshape(config.dim, -1).T
    embedded = embedded + w[f"{prefix}.patch_embed.bias"]
    embedded = embedded + patches(detail, 4) @ w[f"{prefix}.detail_tokens.weight"].reshape(config.dim, -1).T
    embedded = norm(embedded, w, f"{prefix}.embed_norm")
    x = np.concatenate([w[f"{prefix}.class_token"][0], embedded]) + w[f"{prefix}.position"][0]
    level, gap = 0, np.inf
    for block in range(config.depth):
        name = f"{prefix}.blocks.{block}"
        x = x + attention(norm(x, w, f"{name}.norm1"), w, f"{name}.attn", heads, head_dim)
        normed = norm(x, w, f"{name}.norm2")
        if block in config.moe_blocks:
            added, nearest = mixture(normed, w, block, level, task, top_k, keep(config.expert_hidden, width))
            level, gap = level + 1, min(gap, nearest)
        else:
            parameters = [w[f"{name}.mlp.{part}"] for part in ("up", "up_bias", "down", "down_bias")]
            added = feed_forward(normed, parameters, keep(4 * config.dim, width))
        x = x + added
    return x, detail, gap


def dense_head(model: MultiTaskModel, w: Weights, task: str, tokens: Array, detail: Array, width: float) -> Array:
    hidden, name = model.config.decoder_hidden, f"heads.{task}"
    stream = norm(tokens[1:], w, f"{name}.norm") @ w[f"{name}.stream.weight"].T + w[f"{name}.stream.bias"]
    stream = stream.T.reshape(-1, model.config.image_hw[0] // 16, model.config.image_hw[1] // 16)
    for block in range(2):
        stream = bottleneck(stream, w, f"{name}.coarse.{block}", 2 * hidden, width)
    stream = double(bottleneck(double(stream), w, f"{name}.middle", hidden, width))
    stream = stream + np.einsum("oc,chw->ohw", w[f"{name}.detail.weight"][:, :, 0, 0], detail)
    stream = stream + w[f"{name}.detail.bias"][:, None, None]
    for block in range(2):
        stream = bottleneck(stream, w, f"{name}.fine.{block}", hidden, width)
    out = np.einsum("oc,chw->ohw", w[f"{name}.out.weight"][:, :, 0, 0], np.maximum(stream, 0))
    out = out + w[f"{name}.out.bias"][:, None, None]
    finer = np.zeros((len(out) // 4, 2 * out.shape[1], 2 * out.shape[2]))
    for dy in range(2):
        for dx in range(2):
            finer[:, dy::2, dx::2] = out[2 * dy + dx :: 4]  # four sub-pixels a channel, row by row
    return double(finer)


def pooled_head(model: MultiTaskModel, w: Weights, task: str, tokens: Array, width: float) -> Array:
    name, normed = f"heads.{task}", norm(tokens, w, f"heads.{task}.norm")
    pooled = np.concatenate([normed[0], normed[1:].mean(0)])
    up, up_bias, down, down_bias = (w[f"{name}.{part}"] for part in ("up", "up_bias", "down", "down_bias"))
    units = keep(2 * model.config.decoder_hidden, width)
    hidden = pooled @ up[:units].T + up_bias[:units]
    return np.where(hidden > 0, hidden, 0.1 * hidden) @ down[:units] + down_bias


def activated(kind: str, raw: Array) -> Array:
    if kind == "depth":
        return np.exp(np.clip(raw, -5, 7))
    if kind == "normals":
        return raw / np.linalg.norm(raw, axis=0)
    if kind == "probability":
        return 1 / (1 + np.exp(-raw))
    return softmax(raw) if kind == "image_classes" else raw


def largest_difference(found: Tensor, expected: Array) -> float:
    """Relative to the largest value expected, if that is above 1."""
    difference = np.abs(found.detach().double().numpy() - expected).max()
    return float(difference / max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("width", [0.25, 0.4, 0.75, 1.0])
@pytest.mark.parametrize(("name", "top_k"), [("m3vit_micro", 1), ("m3vit_micro", 2), ("vit_micro", 2)])
def test_network_equals_plain_numpy(
    name: str,
    top_k: int,
    width: float,
    make_model: Callable[..., MultiTaskModel],
    make_images: Callable[..., Tensor],
) -> None:
    model = make_model(name, image_hw=(32, 48))
    image, names = make_images(1, (32, 48), seed=3), model.config.task_names
    with torch.no_grad():
        out = model(image, names, width=width, top_k=top_k, image_index_B=torch.zeros(5, dtype=torch.long))
    weights = {key: value.double().numpy() for key, value in model.state_dict().items()}
    assert out.features.detail_ICHW is not None
    for row, task in enumerate(model.config.tasks):
        tokens, detail, gap = encode(model, weights, image[0].double().numpy(), task.name, width, top_k)
        # A smaller gap could send a token to another expert by rounding alone; then another seed is needed.
        assert gap > 1e-4
        assert largest_difference(out.tokens_BND[row], tokens) < TOLERANCE
        assert largest_difference(out.features.detail_ICHW[0], detail) < TOLERANCE
        if task.kind == "image_classes":
            raw = pooled_head(model, weights, task.name, tokens, width)
        else:
            raw = dense_head(model, weights, task.name, tokens, detail, width)
        assert raw.std() > 0.01  # a constant answer would prove little
        assert largest_difference(out.raw[task.name][0], raw) < TOLERANCE
        final = activate(task.kind, out.raw[task.name])[0]
        assert largest_difference(final, activated(task.kind, raw)) < 10 * TOLERANCE  # exp and 1 / length amplify
