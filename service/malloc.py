"""Keeps large buffers out of the allocator's heaps, so that memory which one large request needed is given back.

glibc takes large buffers straight from the system, and gives them back at once; but whenever one is freed, it raises
the bound from which a buffer counts as large, up to 32 MiB. From then on bodies, pixels and what was inflated come from
heaps, one for each thread, which do not shrink below their highest buffer in use. A fixed bound keeps them out. At
their ends the heaps then keep some megabytes for the next request: the system would have to clear every page again.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGE_BYTES = 4 << 20
KEPT_BYTES = 3 << 20  # of each heap: the body of a megabyte, as it came and whole


def give_large_buffers_back() -> bool:
    """Fix the bound for this process; False where the C library has no such thing (musl, macOS)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    kept = mallopt(ctypes.c_int(_M_TRIM_THRESHOLD), ctypes.c_int(KEPT_BYTES))
    return bool(mallopt(ctypes.c_int(_M_MMAP_THRESHOLD), ctypes.c_int(LARGE_BYTES)) and kept)
