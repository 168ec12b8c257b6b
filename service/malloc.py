"""Keeps large buffers out of the allocator's heaps, so that memory which one large request needed is given back.

glibc takes large buffers straight from the system, and gives them back at once; but whenever one is freed, it raises
the bound from which a buffer counts as large, up to 32 MiB. From then on bodies, pixels and what was inflated come from
heaps, one for each thread, which do not shrink below their highest buffer in use. A fixed bound keeps them out. At
their ends the heaps then keep some megabytes for the next request: the system would have to clear every page again.

While a model is opened the bound is low: its weights and what a library keeps with them stay for as long as the model
does, and would come to lie between what others need for a moment. Freed, they would leave holes in the heaps; by
themselves they go back to the system with the model.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGE_BYTES = 4 << 20
KEPT_BYTES = 3 << 20  # of each heap: the body of a megabyte, as it came and whole
OF_MODELS_BYTES = 128 << 10  # where glibc's own bound starts

_lock = threading.Lock()
_fixed = False  # whether this process was told
_opening = 0  # models, at this moment


def give_large_buffers_back() -> bool:
    """Fix the bound for this process; False where the C library has no such thing (musl, macOS)."""
    global _fixed
    with _lock:
        _fixed = _tell(_M_TRIM_THRESHOLD, KEPT_BYTES) and _tell(_M_MMAP_THRESHOLD, LARGE_BYTES)
        return _fixed


@contextmanager
def opening_a_model() -> Iterator[None]:
    """What is allocated inside, by whatever thread, counts as large from `OF_MODELS_BYTES` on. Nothing happens in a
    process that was not told to give large buffers back."""
    _count(+1)
    try:
        yield
    finally:
        _count(-1)


def _count(by: int) -> None:
    global _opening
    with _lock:
        _opening += by
        if _fixed:
            _tell(_M_MMAP_THRESHOLD, OF_MODELS_BYTES if _opening else LARGE_BYTES)


def _tell(option: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).mallopt(ctypes.c_int(option), ctypes.c_int(value)))
    except (OSError, AttributeError, TypeError):
        return False
