"""Exact cost of the blocks of a ViT, with or without experts and adapters; as in `flops.py`."""

from .config import PRODUCTS, ModelConfig
from .widths import kept


def vit_blocks_flops(config: ModelConfig, width: float) -> tuple[int, int]:
    """FLOPs of one image, and of one row without its experts.

    What comes before the first routing decision or the first product that a task adapts runs once per image; in mode
    `branch` everything does but the adapters of tasks.
    """
    tokens = 1 + config.grid_hw[0] * config.grid_hw[1]
    image, row, apart = 0, 0, False
    for block in range(config.depth):
        own = config.task_products(block)
        for name, flops in _steps(config, block, width):
            apart = apart or name == "routing"
            image, row = (image, row + flops) if apart else (image + flops, row)
            apart = apart or (name in own and config.adapter_mode == "inline")
        row += 2 * config.adapter_rank * sum(sum(product_units(config, block, width)[name]) for name in own) * tokens
    return image, row


def _steps(config: ModelConfig, block: int, width: float) -> list[tuple[str, int]]:
    """The products of a block in their order, with the shared adapters beside them, each with its FLOPs."""
    tokens, sizes, ranks = 1 + config.grid_hw[0] * config.grid_hw[1], product_units(config, block, width), {}
    if block in config.shared_blocks and not config.folded:
        ranks = dict.fromkeys(config.shared_on, config.shared_rank)
    flops = {
        name: 2 * tokens * (inputs * outputs + ranks.get(name, 0) * (inputs + outputs))
        for name, (inputs, outputs) in sizes.items()
    }
    scores = 2 * 2 * tokens * tokens * sizes["proj"][0]
    steps = [("qkv", flops["qkv"]), ("scores", scores), ("proj", flops["proj"])]
    if block in config.moe_blocks:
        return [*steps, ("routing", 2 * tokens * config.dim * config.experts)]
    return [*steps, ("fc1", flops["fc1"]), ("fc2", flops["fc2"]), ("feed", 0)]


def product_units(config: ModelConfig, block: int, width: float) -> dict[str, tuple[int, int]]:
    """What goes into and comes out of each product of a block, and of the feed-forward part as a whole."""
    units, dim = kept(config.heads, width) * config.head_dim, config.dim
    hidden = kept(config.expert_hidden if block in config.moe_blocks else config.mlp_hidden, width)
    sizes = {"qkv": (dim, 3 * units), "proj": (units, dim), "fc1": (dim, hidden), "fc2": (hidden, dim)}
    return sizes | {"feed": (dim, dim)}


def vit_blocks_parameters(config: ModelConfig, width: float) -> int:
    """Numbers that the blocks hold at a width; what tasks bring along is left out."""
    total = 0
    for block in range(config.depth):
        sizes = product_units(config, block, width)
        (dim, three), hidden = sizes["qkv"], sizes["fc1"][1]
        total += 4 * dim + three * (dim + 1) + three // 3 * dim + dim
        total += (config.experts if block in config.moe_blocks else 1) * (hidden * (2 * dim + 1) + dim)
        if block in config.shared_blocks and not config.folded:
            total += config.shared_rank * sum(sum(sizes[name]) for name in PRODUCTS if name in config.shared_on)
    return total
