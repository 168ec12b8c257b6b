"""What a manifest says of the encoder: its dimensions, and each task's routers, expert paths and adapters."""

from __future__ import annotations

import msgspec

from .manifest_checks import require


class BlockExperts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The experts of one MoE block that a task can reach, and what the calibration images showed of all of them.

    `mass` is each expert's share [E] of the router weight of all visits, the mean over input sizes and encoder widths.
    Of that, `covered` is the share of `kept`; `probability` is their share of the whole softmax, visited or not: a
    router that knows `kept` alone multiplies its weights by 1 / `probability`. Both are those of the size and width
    where they are least.
    """

    kept: tuple[int, ...]
    mass: tuple[float, ...]
    covered: float
    probability: float


class ExpertPaths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task's expert paths, an entry per MoE block; the biases of experts that are not kept are -inf.

    `open_biases` are the biases without those -inf, tensors [E] too; empty where every expert is kept.
    """

    coverage: float
    blocks: tuple[BlockExperts, ...]
    images: int
    source: str
    open_biases: tuple[str, ...] = ()


class RouterSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task's routers, one per MoE block: names of tensors [D, E], and of biases [E] or null for none.

    `paths` is null where nobody measured which experts the task visits: then it can reach all of them.
    """

    weights: tuple[str, ...]
    biases: tuple[str | None, ...] = ()
    paths: ExpertPaths | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors that belong to it."""
        opened = self.paths.open_biases if self.paths is not None else ()
        return tuple(name for name in (*self.weights, *self.biases, *opened) if name is not None)


class EncoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encoder's dimensions. Dense: moe_blocks empty, experts and top_k 0, no routers.

    `adapters` names the tensors of each task's low-rank adapters, in the order in which the graph reads them. `levels`
    is (pixels per token, channels) of each resolution of a backbone that has several, the deepest (`tokens`) last;
    such tokens have no class token before them. `taps` are blocks of a ViT whose tokens it gives besides the last ones,
    as `level_0` and so on, class token first.
    """

    dim: int
    depth: int
    heads: int
    patch: int
    moe_blocks: tuple[int, ...] = ()
    experts: int = 0
    top_k: int = 0
    detail_channels: int = 0
    routers: dict[str, RouterSpec] = {}
    adapters: dict[str, tuple[str, ...]] = {}
    levels: tuple[tuple[int, int], ...] = ()
    taps: tuple[int, ...] = ()


def check_encoder(encoder: EncoderSpec, tasks: tuple[str, ...]) -> None:
    """What must hold between the encoder's fields, and with the manifest's tasks.

    Raises:
        ManifestError: naming the field.
    """
    for field in ("dim", "depth", "heads"):
        value = getattr(encoder, field)
        require(value >= 1, f"encoder.{field}", "at least 1", value)
    require(encoder.detail_channels >= 0, "encoder.detail_channels", "0 or more", encoder.detail_channels)
    _check_adapters(encoder, tasks)
    level_ok = all(stride >= 1 and dim >= 1 for stride, dim in encoder.levels)
    require(level_ok, "encoder.levels", "pixels and channels of at least 1", encoder.levels)
    for name, blocks in (("taps", encoder.taps), ("moe_blocks", encoder.moe_blocks)):
        inside = all(0 <= b < encoder.depth for b in blocks) and list(blocks) == sorted(set(blocks))
        require(inside, f"encoder.{name}", f"ascending, from 0 to {encoder.depth - 1}", blocks)
    if encoder.moe_blocks:
        _check_routers(encoder, tasks)
    else:
        require(not encoder.routers, "encoder.routers", "empty without MoE blocks", sorted(encoder.routers))


def _check_adapters(encoder: EncoderSpec, tasks: tuple[str, ...]) -> None:
    for task, tensors in encoder.adapters.items():
        require(task in tasks, f"encoder.adapters[{task}]", f"one of {tasks}", task)
        require(bool(tensors), f"encoder.adapters[{task}]", "names of tensors", "none")
    adapted = sorted(encoder.adapters)
    require(adapted in ([], sorted(tasks)), "encoder.adapters", "one entry per task or none", adapted)
    counts = {len(tensors) for tensors in encoder.adapters.values()}
    require(len(counts) < 2, "encoder.adapters", "equally many tensors per task", sorted(counts))


def _check_routers(encoder: EncoderSpec, tasks: tuple[str, ...]) -> None:
    blocks = len(encoder.moe_blocks)
    require(1 <= encoder.top_k <= encoder.experts, "encoder.top_k", f"1 to {encoder.experts} (experts)", encoder.top_k)
    names = sorted(encoder.routers)
    require(names == sorted(tasks), "encoder.routers", "one entry per task", names)
    for name, router in encoder.routers.items():
        where = f"encoder.routers[{name}]"
        require(len(router.weights) == blocks, f"{where}.weights", f"{blocks} names", len(router.weights))
        require(len(router.biases) in (0, blocks), f"{where}.biases", f"{blocks} names", len(router.biases))
        if router.paths is not None:
            _check_paths(f"{where}.paths", router.paths, encoder)


def _check_paths(where: str, paths: ExpertPaths, encoder: EncoderSpec) -> None:
    count = len(encoder.moe_blocks)
    require(0 < paths.coverage <= 1, f"{where}.coverage", "above 0, at most 1", paths.coverage)
    require(paths.images >= 1, f"{where}.images", "at least 1", paths.images)
    require(len(paths.blocks) == count, f"{where}.blocks", f"{count} entries", len(paths.blocks))
    opened = len(paths.open_biases)
    require(opened in (0, count), f"{where}.open_biases", f"{count} names", opened)
    for number, block in enumerate(paths.blocks):
        here, kept = f"{where}.blocks[{number}]", block.kept
        known = list(kept) == sorted(set(kept)) and all(0 <= expert < encoder.experts for expert in kept)
        require(known, f"{here}.kept", f"ascending, from 0 to {encoder.experts - 1}", kept)
        require(len(kept) >= encoder.top_k, f"{here}.kept", f"at least {encoder.top_k} (top_k) experts", kept)
        require(len(block.mass) == encoder.experts, f"{here}.mass", f"{encoder.experts} shares", len(block.mass))
        shares = (*block.mass, block.covered, block.probability)
        require(all(0 <= share <= 1 for share in shares), f"{here}.mass", "shares from 0 to 1", shares)
        if len(kept) < encoder.experts:
            require(opened > 0, f"{where}.open_biases", "named, as experts are left out", "none")
