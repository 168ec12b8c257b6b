"""A noisy neighbour: a second process that keeps one core busy with counting, or all of them with matrix products."""

from __future__ import annotations

import subprocess
import sys
import time
from types import TracebackType
from typing import Literal

_START = "print('at work', flush=True)\n"
_CODE = {
    "counts": _START + "while True: sum(range(10_000))",
    "multiplies": f"import numpy\na = numpy.ones((1024, 1024), 'float32')\n{_START}while True: a @ a",
}


class Neighbour:
    """Works while the `with` block runs; it has begun when the block does.

    Args:
        how: "counts" hogs one core, "multiplies" wants all of them, and their caches.
    """

    def __init__(self, how: Literal["counts", "multiplies"] = "counts") -> None:
        self._how = how

    def __enter__(self) -> Neighbour:
        self._process = subprocess.Popen([sys.executable, "-c", _CODE[self._how]], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.since_s = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
