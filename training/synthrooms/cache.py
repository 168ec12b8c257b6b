"""Rendered rooms on disk: shards of memory-mapped arrays, written once, read in any order.

    python -m slimpath.training.synthrooms.cache --out rooms --first-seed 0 --count 4096 --size 224x224 --workers 2

A cache is a folder with `config.json` and one folder per shard, `shard-<first seed>-<count>`, of plain `.npy` files,
one for each array of `packed`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .classes import CLASSES, ROOM_TYPES
from .packed import ARRAYS, Room, pack, unpack
from .render import RENDERER_VERSION, VERSIONS, WORLDS, render_rooms

_CONFIG = "config.json"


class CacheMismatchError(ValueError):
    """The folder holds rooms rendered with other settings."""


@dataclass(frozen=True)
class CacheConfig:
    """What a cache holds; written beside its shards."""

    first_seed: int
    count: int
    size_hw: tuple[int, int]
    samples_per_pixel: int
    shard: int
    renderer: str = RENDERER_VERSION
    classes: tuple[str, ...] = CLASSES
    room_types: tuple[str, ...] = ROOM_TYPES

    def shards(self) -> list[range]:
        """The seeds of each shard."""
        end = self.first_seed + self.count
        return [range(start, min(start + self.shard, end)) for start in range(self.first_seed, end, self.shard)]


def read_config(folder: Path) -> CacheConfig:
    """The configuration of a cache.

    Raises:
        FileNotFoundError: `folder` holds no `config.json`.
    """
    fields = json.loads((folder / _CONFIG).read_text())
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return CacheConfig(**{**fields, **lists})


def shard_path(folder: Path, seeds: range) -> Path:
    return folder / f"shard-{seeds.start:09d}-{len(seeds):05d}"


def _write_shard(job: tuple[Path, range, tuple[int, int], int, str]) -> int:
    """Render one shard under a temporary name, then rename it: a shard that exists is whole."""
    folder, seeds, size_hw, samples_per_pixel, world = job
    torch.set_num_threads(1)  # workers share the cores between them
    target = shard_path(folder, seeds)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.mkdir()
    try:
        rooms = [
            pack(render_rooms([seed], size_hw, samples_per_pixel=samples_per_pixel, world=world)) for seed in seeds
        ]
        for name in ARRAYS:
            np.save(draft / f"{name}.npy", np.concatenate([room[name] for room in rooms]))
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return len(seeds)


def _check_config(folder: Path, config: CacheConfig) -> None:
    """Write the configuration, or compare it with the one there; only `count` may differ."""
    path = folder / _CONFIG
    if path.exists():
        old, new = asdict(read_config(folder)), asdict(config)
        changed = [
            f"{name}: {old[name]} there, {new[name]} asked"
            for name in new
            if name != "count" and old[name] != new[name]
        ]
        if changed:
            raise CacheMismatchError(
                f"{folder} was rendered with other settings ({'; '.join(changed)}); choose another folder"
            )
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(config), indent=2) + "\n")
    draft.replace(path)


def render_to_shards(
    out_dir: Path,
    first_seed: int,
    count: int,
    size_hw: tuple[int, int],
    *,
    samples_per_pixel: int = 1,
    shard: int = 256,
    workers: int = 1,
    world: str = "rooms",
    progress: bool = True,
) -> None:
    """Render seeds `first_seed` .. `first_seed + count - 1`; shards that exist already are kept as they are.

    Args:
        out_dir: made if absent.
        size_hw: height and width in pixels.
        shard: rooms per shard.
        workers: processes, one thread each.
        world: see `render_rooms`.

    Raises:
        CacheMismatchError: `out_dir` holds rooms of another seed range start, size, sampling or renderer.
        ValueError: `count`, `shard` or `workers` is below 1.
    """
    if min(count, shard, workers) < 1:
        raise ValueError(f"count, shard and workers must be >= 1, got {count}, {shard} and {workers}")
    out_dir.mkdir(parents=True, exist_ok=True)
    config = CacheConfig(first_seed, count, size_hw, samples_per_pixel, shard, VERSIONS[world])
    _check_config(out_dir, config)
    jobs = [
        (out_dir, seeds, size_hw, samples_per_pixel, world)
        for seeds in config.shards()
        if not shard_path(out_dir, seeds).exists()
    ]
    with tqdm(total=count, initial=count - sum(len(job[1]) for job in jobs), unit="room", disable=not progress) as bar:
        if workers == 1:
            threads = torch.get_num_threads()
            for job in jobs:
                bar.update(_write_shard(job))
            torch.set_num_threads(threads)
            return
        # Spawned, not forked: a forked torch may inherit a locked thread pool.
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for done in pool.imap_unordered(_write_shard, jobs):
                bar.update(done)


class RoomShards:
    """The rooms of a cache folder by index, in order of their seeds; usable as a `torch.utils.data.Dataset`.

    Shards not yet rendered are left out. Arrays are mapped on first use, so that worker processes share the page cache.
    """

    def __init__(self, folder: Path) -> None:
        """Open a cache.

        Raises:
            FileNotFoundError: no `config.json`, or no shard in it.
        """
        self.config = read_config(folder)
        pairs = [(seeds, shard_path(folder, seeds)) for seeds in self.config.shards()]
        self._shards = [(seeds, path) for seeds, path in pairs if path.exists()]
        if not self._shards:
            raise FileNotFoundError(
                f"{folder} holds no finished shard; render some with slimpath.training.synthrooms.cache"
            )
        self._ends = np.cumsum([len(seeds) for seeds, _ in self._shards])
        self._maps: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_maps": {}}  # a pickled map would carry its whole content along

    def __getitem__(self, i: int) -> Room:
        """Room `i`.

        Raises:
            IndexError: `i` is out of range.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"room {i} of {len(self)}")
        i %= len(self)
        number = int(np.searchsorted(self._ends, i, side="right"))
        return unpack(self._open(number), i - int(self._ends[number - 1]) if number else i)

    def _open(self, number: int) -> dict[str, np.ndarray]:
        if number not in self._maps:
            path = self._shards[number][1]
            self._maps[number] = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return self._maps[number]


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(argv: list[str] | None = None) -> None:
    """Command line of the renderer."""
    parser = argparse.ArgumentParser(description="Render procedural rooms with labels into memory-mapped shards.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=4096, help="rooms in all")
    parser.add_argument("--size", type=_size, default=(224, 224), help="height x width in pixels, as 224x224")
    parser.add_argument("--samples-per-pixel", type=int, default=1, help="1, 4 or 9")
    parser.add_argument("--shard", type=int, default=256, help="rooms per shard")
    parser.add_argument("--workers", type=int, default=1, help="processes, one core each")
    parser.add_argument(
        "--world", choices=tuple(WORLDS), default="rooms", help="rooms alone, or what photographs show too"
    )
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args(argv)
    render_to_shards(
        args.out,
        args.first_seed,
        args.count,
        args.size,
        samples_per_pixel=args.samples_per_pixel,
        shard=args.shard,
        workers=args.workers,
        world=args.world,
        progress=args.progress,
    )
    size_mb = sum(file.stat().st_size for file in args.out.rglob("*.npy")) / 1e6
    print(f"{args.out}: {args.count} rooms of {args.size[0]}x{args.size[1]}, {size_mb:.0f} MB, {VERSIONS[args.world]}")


if __name__ == "__main__":
    main()
