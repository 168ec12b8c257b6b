"""The part of `slimpath inspect` about experts: which of them each task can reach, and what it needs of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .output import human_bytes, percent, print_table

if TYPE_CHECKING:
    from ..runtime import Bundle, Manifest


def describe_needs(bundle: Bundle) -> dict[str, Any]:
    """Bytes of the weights that each task needs at full width, all of them together, and the experts it can reach."""
    from ..runtime.footprint.residency import WeightMap

    document = WeightMap(bundle).residency().to_json()
    del document["touched"]  # of this process, which runs nothing
    return document


def print_experts(manifest: Manifest, needs: dict[str, Any]) -> None:
    """A line per task; nothing for a bundle without experts."""
    if not manifest.is_moe:
        return
    encoder = manifest.encoder
    rows = []
    for task, need in needs["tasks"].items():
        paths = encoder.routers[task].paths
        blocks = () if paths is None else paths.blocks
        rows.append(
            (
                task,
                *need["kept"],
                "unmeasured" if paths is None else f"{min(block.covered for block in blocks):.4g}",
                "unmeasured" if paths is None else f"{min(block.probability for block in blocks):.3g}",
                human_bytes(need["experts"]),
                human_bytes(need["total"]),
                percent(need["total"] / needs["weights_file"]),
            )
        )
    names = ("task", *(f"block {block}" for block in encoder.moe_blocks), "covered", "of softmax")
    names += ("experts", "all its weights", "of the file")
    title = f"experts that a task can reach, of {encoder.experts} a block{_how(manifest)}"
    print_table(title, names, rows, numeric=range(1, len(names)))
    together, all_experts = human_bytes(needs["together"]), human_bytes(needs["all_experts"])
    print(f"all tasks together need {together} of the weights; all experts are {all_experts}\n")


def _how(manifest: Manifest) -> str:
    measured = {
        (paths.coverage, paths.images, paths.source)
        for router in manifest.encoder.routers.values()
        if (paths := router.paths) is not None
    }
    said = [f"coverage {coverage:g} on {images} images of {source}" for coverage, images, source in sorted(measured)]
    return f" ({'; '.join(said)})" if said else ""
