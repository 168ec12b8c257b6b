"""Names inside a ViT block, which timm and what was built on it share, and what becomes of them here."""

from .changes import by_head, transposed
from .table import Rule


def block_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The rows of norms, attention and feed-forward part.

    Args:
        theirs, ours: patterns of the block's own name, with `{block}` for its number.
    """
    return (
        Rule(f"{theirs}.norm1.{{part}}", f"{ours}.norm1.{{part}}"),
        Rule(f"{theirs}.norm2.{{part}}", f"{ours}.norm2.{{part}}"),
        Rule(f"{theirs}.attn.qkv.weight", f"{ours}.attn.qkv", by_head, "rows ordered by head"),
        Rule(f"{theirs}.attn.qkv.bias", f"{ours}.attn.qkv_bias", by_head, "ordered by head"),
        Rule(f"{theirs}.attn.proj.weight", f"{ours}.attn.proj", transposed, "transposed"),
        Rule(f"{theirs}.attn.proj.bias", f"{ours}.attn.proj_bias"),
        Rule(f"{theirs}.mlp.fc1.weight", f"{ours}.mlp.up"),
        Rule(f"{theirs}.mlp.fc1.bias", f"{ours}.mlp.up_bias"),
        Rule(f"{theirs}.mlp.fc2.weight", f"{ours}.mlp.down", transposed, "transposed"),
        Rule(f"{theirs}.mlp.fc2.bias", f"{ours}.mlp.down_bias"),
    )
