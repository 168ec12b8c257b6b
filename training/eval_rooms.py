"""The scenes that an evaluation looks at: rendered once, kept in a cache folder if one is given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import EvaluationError
from .synthrooms import VERSIONS
from .synthrooms.cache import RoomShards, render_to_shards

__all__ = ["FIRST_EVALUATION_SEED", "RoomRange", "open_rooms"]

FIRST_EVALUATION_SEED = 10_000_000
"""Scenes from this seed on are for evaluation; no training uses them."""

_SHARD = 20  # scenes: small enough that two workers end together


@dataclass(frozen=True)
class RoomRange:
    """`count` scenes from `first_seed` on, as they are to be rendered."""

    first_seed: int
    count: int
    size_hw: tuple[int, int]
    samples_per_pixel: int
    world: str = "rooms"

    @property
    def folder(self) -> str:
        """Name of its folder in a cache."""
        height, width = self.size_hw
        return f"{VERSIONS[self.world]}-{height}x{width}-samples{self.samples_per_pixel}-from{self.first_seed}"

    def __str__(self) -> str:
        return f"seeds {self.first_seed} to {self.first_seed + self.count - 1}"

    def check_apart(self, other: RoomRange) -> None:
        """Refuse to score on scenes that something was fitted on.

        Raises:
            EvaluationError: the ranges share a seed.
        """
        if self.first_seed < other.first_seed + other.count and other.first_seed < self.first_seed + self.count:
            raise EvaluationError(f"evaluation {self} and training {other} overlap; choose another first seed")


@contextmanager
def open_rooms(rooms: RoomRange, cache: Path | None, *, workers: int, progress: bool) -> Iterator[RoomShards]:
    """Render what is not in the cache yet, and open it; without a cache a temporary folder serves.

    Labels are as precise as shards keep them: depth to 0.05 %, normals to 0.3 degrees.

    Raises:
        EvaluationError: fewer than one scene is asked for.
    """
    if rooms.world not in VERSIONS:
        raise EvaluationError(f"world must be one of {', '.join(VERSIONS)}, got '{rooms.world}'")
    if rooms.count < 1 or rooms.first_seed < 0:
        raise EvaluationError(f"an evaluation needs at least 1 scene and a seed from 0 up, got {rooms}")
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="slimpath-rooms-") as folder:
            yield _rendered(rooms, Path(folder), workers, progress)
    else:
        yield _rendered(rooms, cache, workers, progress)


def _rendered(rooms: RoomRange, cache: Path, workers: int, progress: bool) -> RoomShards:
    folder = cache / rooms.folder
    render_to_shards(
        folder,
        rooms.first_seed,
        rooms.count,
        rooms.size_hw,
        samples_per_pixel=rooms.samples_per_pixel,
        shard=_SHARD,
        workers=min(workers, -(-rooms.count // _SHARD)),
        world=rooms.world,
        progress=progress,
    )
    return RoomShards(folder)
