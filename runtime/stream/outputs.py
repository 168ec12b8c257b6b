"""Where the pictures of a stream go."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Output(Protocol):
    """Takes finished pictures, one after the other, from one thread."""

    def show(self, picture_HWC: np.ndarray, tick: int) -> None:
        """One picture, uint8 RGB, of always the same size; `tick` is its place on the time line, rising.

        Raises:
            OutputError: it cannot be written; the stream ends.
        """
        ...

    def close(self) -> None:
        """No more will come. A second call does nothing."""
        ...
