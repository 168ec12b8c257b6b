"""The low-rank adapters of a batch's rows, flat, for the encoder. Axes: B rows, P numbers of a task's adapters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from ..bundles.bundle import Bundle
from ..bundles.graph_spec import GraphSpec
from ..errors import WeightsError

_MAX_CACHED = 32


class Adapters:
    """Adapters by task and encoder width, and by the tasks of a batch's rows. Safe to use from several threads."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._by_task: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
        self._stacks: OrderedDict[tuple[tuple[str, ...], tuple[int, ...]], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def stack(self, graph: GraphSpec, task_of_row: Sequence[str]) -> np.ndarray:
        """float32 [B, P] for an encoder; kept for the row patterns that were asked for last.

        Raises:
            WeightsError: an adapter in the weights has fewer rows than the graph reads.
        """
        key = (tuple(task_of_row), graph.adapter_rows)
        with self._lock:
            if key in self._stacks:
                self._stacks.move_to_end(key)
                return self._stacks[key]
            stacked = np.stack([self._of_task(task, graph.adapter_rows) for task in key[0]])
            stacked.setflags(write=False)  # what a device was given once need not be copied to it again
            self._stacks[key] = stacked
            if len(self._stacks) > _MAX_CACHED:
                self._stacks.popitem(last=False)
            return stacked

    def _of_task(self, task: str, rows: tuple[int, ...]) -> np.ndarray:
        if (task, rows) not in self._by_task:
            tensors = self._bundle.manifest.encoder.adapters[task]
            self._by_task[task, rows] = np.concatenate([self._read(name, n) for name, n in zip(tensors, rows)])
        return self._by_task[task, rows]

    def _read(self, name: str, rows: int) -> np.ndarray:
        """The first rows of a tensor, flat: a narrow encoder reads the prefix, as of every weight."""
        tensor = self._bundle.tensor(name)
        if tensor.ndim != 2 or tensor.shape[0] < rows:
            raise WeightsError(f"adapter {name!r} must have at least {rows} rows, got the shape {list(tensor.shape)}")
        return tensor[:rows].astype(np.float32).ravel()
