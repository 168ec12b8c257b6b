"""What decoders cost beside each other: `python benchmarks/decoders.py` writes the table in docs/decoders.md.

Counted, not timed: FLOPs and parameters of a map with one channel, of the network as a preset makes it.
"""

from __future__ import annotations

from pathlib import Path

from method import table
from page import with_figures

from slimpath.models import HeadConfig, preset_config
from slimpath.models.flops import encoder_cost, head_cost
from slimpath.models.presets import TASKEXPERT

PAGE = Path(__file__).resolve().parent.parent / "docs" / "decoders.md"
BACKBONES = ("m3vit_nano", "m3vit_small", "swin_nano", "swin_tiny")
WIDTHS = (0.25, 0.5, 0.75, 1.0)
TASK = HeadConfig("depth", "depth", 1)


def figures() -> str:
    """GFLOPs of both kinds of decoder at every width, and what they hold at full width."""
    head = ["preset", "encoder, GFLOPs", "decoder", *(f"width {width:g}" for width in WIDTHS), "parameters"]
    rows = []
    for name in BACKBONES:
        for preset in (name, TASKEXPERT + name):
            config = preset_config(preset, (TASK,))
            costs = [head_cost(config, config.tasks[0], width) for width in WIDTHS]
            encoder = encoder_cost(config).flops(1, 1, config.top_k) / 1e9
            each = [f"{cost.flops(0, 1, 0) / 1e9:.3f}" for cost in costs]
            rows.append([f"`{preset}`", f"{encoder:.2f}", config.tasks[0].decoder, *each, f"{costs[-1].parameters:,}"])
    return table(head, rows)


def page(text: str) -> str:
    """The page with the table between its marks."""
    return with_figures(text, Path(__file__).name, figures())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE} written")
