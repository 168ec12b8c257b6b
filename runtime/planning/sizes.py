"""How a request names an input size."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SizeError

SizeRequest = tuple[int, int] | int | str | None


def parse_size(size: SizeRequest, known: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(H, W) of a requested size: None (the first), 224, "224", "224x320" or (224, 320).

    Raises:
        SizeError: not a size, or none of the known ones.
    """
    if size is None:
        return known[0]
    try:
        parts = size.lower().split("x") if isinstance(size, str) else [size] if isinstance(size, int) else size
        numbers = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        numbers = ()
    wanted = numbers * 2 if len(numbers) == 1 else numbers
    for candidate in known:
        if candidate == wanted:
            return candidate
    listed = ", ".join(f"{height}x{width}" for height, width in known)
    raise SizeError(f"no graphs for size {size!r}", hint=f"this bundle has (height x width) {listed}")
