"""Names inside a block of ViT and Swin, which timm and what was built on it share, and what becomes of them here."""

from .changes import by_head, transposed
from .table import Rule


def block_rules(theirs: str, ours: str, linear: str = "") -> tuple[Rule, ...]:
    """The rows of norms, attention and feed-forward part.

    Args:
        theirs, ours: patterns of the block's own name, with `{block}` for its number.
        linear: what stands between a layer's name and `.weight`.
    """
    return (
        Rule(f"{theirs}.norm1.{{part}}", f"{ours}.norm1.{{part}}"),
        Rule(f"{theirs}.norm2.{{part}}", f"{ours}.norm2.{{part}}"),
        Rule(f"{theirs}.attn.qkv{linear}.weight", f"{ours}.attn.qkv", by_head, "rows ordered by head"),
        Rule(f"{theirs}.attn.qkv{linear}.bias", f"{ours}.attn.qkv_bias", by_head, "ordered by head"),
        Rule(f"{theirs}.attn.proj{linear}.weight", f"{ours}.attn.proj", transposed, "transposed"),
        Rule(f"{theirs}.attn.proj{linear}.bias", f"{ours}.attn.proj_bias"),
        Rule(f"{theirs}.mlp.fc1{linear}.weight", f"{ours}.mlp.up"),
        Rule(f"{theirs}.mlp.fc1{linear}.bias", f"{ours}.mlp.up_bias"),
        Rule(f"{theirs}.mlp.fc2{linear}.weight", f"{ours}.mlp.down", transposed, "transposed"),
        Rule(f"{theirs}.mlp.fc2{linear}.bias", f"{ours}.mlp.down_bias"),
    )
