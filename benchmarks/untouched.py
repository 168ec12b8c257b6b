"""Shows, from inside a process of its own, that a task does not read the experts that its routers cannot reach.

    python benchmarks/untouched.py BUNDLE TASK [--images N] [--then OTHER]

1. Runs the task once in the mapped tier, and asks the kernel which pages of the weights this process has mapped.
2. Takes from the process the right to read the pages of all other experts: one read of them, and it dies (SIGSEGV).
3. Runs the task on more pictures. With `--then`, runs another task in the end, which has to die.

Prints one JSON document after step 3: bytes expected and mapped, the peak of resident memory, and the first three
values of every answer. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slimpath.runtime import Bundle, Engine
from slimpath.runtime.footprint.memory import peak_bytes
from slimpath.runtime.footprint.residency import WeightMap, merged

PAGE = mmap.PAGESIZE
PR_SET_THP_DISABLE = 41
PROT_NONE = 0


def without_large_pages() -> None:
    """Let the kernel map this process' files page by page: with 2 MB at a time, neighbours would look as if read."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def mappings(path: Path) -> Iterator[tuple[int, int, int]]:
    """(address, bytes, offset in the file) of every mapping of a file in this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[5] == str(path):
            start, end = (int(part, 16) for part in parts[0].split("-"))
            yield start, end - start, int(parts[2], 16)


def forbid(path: Path, ranges: list[tuple[int, int]]) -> int:
    """Make the whole pages inside the ranges (offset, bytes) of a file unreadable wherever it is mapped.

    Returns:
        Bytes of the file that are unreadable now.
    """
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    forbidden = []
    for address, size, first in mappings(path):
        for offset, length in ranges:
            start = max(-(-offset // PAGE) * PAGE, first)
            end = min((offset + length) // PAGE * PAGE, first + size)
            if start >= end:
                continue
            if mprotect(ctypes.c_void_p(address + start - first), ctypes.c_size_t(end - start), PROT_NONE):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            forbidden.append((start, end - start))
    return sum(length for _, length in merged(forbidden))


def pictures(count: int, size_hw: tuple[int, int]) -> Iterator[np.ndarray]:
    """Smooth random pictures: routing differs from one to the next."""
    import cv2

    rng = np.random.default_rng(0)
    for _ in range(count):
        coarse = rng.integers(0, 256, (size_hw[0] // 8, size_hw[1] // 8, 3), np.uint8)
        yield cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_LINEAR)


def show(folder: Path, task: str, images: int, then: str | None) -> dict[str, object]:
    """Steps 1 to 3; the document that is printed."""
    bundle = Bundle.open(folder)
    weights = WeightMap(bundle)
    first, *others = pictures(images, bundle.manifest.sizes[0])
    with Engine.load(bundle, tier="mapped", threads=1) as engine:
        engine(first, tasks=task)
        report = weights.residency([task])
        foreign = [entry for ranges in weights.foreign([task]).values() for entry in ranges]
        forbidden = forbid(bundle.weights.path, foreign)
        answers = [np.ravel(engine(picture, tasks=task)[task])[:3].tolist() for picture in others]
        document = {
            "task": task,
            "forbidden": forbidden,
            "foreign": sum(length for _, length in foreign),
            "answers": answers,
            "peak_bytes": peak_bytes(),
            **report.to_json(),
        }
        print(json.dumps(document), flush=True)
        if then is not None:
            engine(first, tasks=then)
    return document


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("task")
    parser.add_argument("--images", type=int, default=5, help="pictures to run on, the first before step 2")
    parser.add_argument("--then", metavar="OTHER", default=None, help="a task that reads what is forbidden by then")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # dying is part of the plan
    without_large_pages()
    show(arguments.bundle, arguments.task, arguments.images, arguments.then)


if __name__ == "__main__":
    sys.exit(main())
