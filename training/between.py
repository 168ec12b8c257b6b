"""Weights on the straight line between a checkpoint and a fine-tune of it.

    python -m slimpath.training.between START.safetensors TUNED.safetensors --share 0.7 --out OUT.safetensors

A fine-tune on other pictures forgets some of what it started from. On the line between the two, networks are often
better at both than either end (WiSE-FT: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv
2109.01903).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from ..models import load_checkpoint, save_checkpoint
from .errors import ConfigError
from .start import sha256_of

__all__ = ["between"]


@torch.no_grad()
def between(start: Path, tuned: Path, share: float, out: Path) -> dict[str, Any]:
    """Write `(1 - share) * start + share * tuned`, with what `tuned` says of itself and how it was made.

    Args:
        share: 0 is the start, 1 the fine-tune.

    Returns:
        The provenance that was written.

    Raises:
        ConfigError: the checkpoints hold different networks, or `share` is not from 0 to 1.
        CheckpointError, FileNotFoundError: one cannot be read.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share must be from 0 (the start) to 1 (the fine-tune), got {share:g}")
    (first, _), (last, metadata) = load_checkpoint(start), load_checkpoint(tuned)
    old, new = first.state_dict(), last.state_dict()
    if first.config.tasks != last.config.tasks or {n: v.shape for n, v in old.items()} != {
        n: v.shape for n, v in new.items()
    }:
        raise ConfigError(
            f"{tuned} is not a fine-tune of {start}: other tasks or other shapes",
            hint="give the checkpoint that the training had as start=",
        )
    last.load_state_dict({name: old[name] + (new[name] - old[name]) * share for name in new})
    provenance = {
        **dict(metadata.get("provenance") or {}),
        "between": {"share": share, "start": sha256_of(start), "tuned": sha256_of(tuned)},
    }
    save_checkpoint(out, last, {**metadata, "provenance": provenance})
    return provenance


def main(argv: list[str] | None = None) -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="slimpath.training.between"
    )
    parser.add_argument("start", type=Path, help="what the fine-tune started from")
    parser.add_argument("tuned", type=Path, help="the fine-tune")
    parser.add_argument("--share", type=float, required=True, help="of the way from the first to the second, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    arguments = parser.parse_args(argv)
    try:
        between(arguments.start, arguments.tuned, arguments.share, arguments.out)
    except (ConfigError, FileNotFoundError) as error:
        parser.error(str(error))
    print(f"{arguments.out}: {arguments.share:g} of the way from {arguments.start.name} to {arguments.tuned.name}")


if __name__ == "__main__":
    main()
