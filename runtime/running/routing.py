"""The routers of a batch's rows, stacked for the encoder. Axes: B rows, L MoE blocks, D dim, E experts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from ..bundles.bundle import Bundle
from ..bundles.encoder_spec import RouterSpec
from ..errors import WeightsError

_MAX_CACHED = 32


class Routers:
    """Routers by task, and by the tasks of a batch's rows.

    Args:
        all_experts: let every task reach every expert again, also those that its expert paths leave out.
    """

    def __init__(self, bundle: Bundle, *, all_experts: bool = False) -> None:
        self._bundle = bundle
        self._all_experts = all_experts
        self._by_task: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._stacks: OrderedDict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def stack(self, task_of_row: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """float32 [B, L, D, E] and [B, L, E]; kept for the row patterns that were asked for last.

        Raises:
            WeightsError: a router in the weights has another shape than the manifest says.
        """
        key = tuple(task_of_row)
        with self._lock:
            if key in self._stacks:
                self._stacks.move_to_end(key)
                return self._stacks[key]
            of_rows = [self._of_task(task) for task in key]
            stacked = np.stack([weight for weight, _ in of_rows]), np.stack([bias for _, bias in of_rows])
            for array in stacked:
                array.setflags(write=False)  # what a device was given once need not be copied to it again
            self._stacks[key] = stacked
            if len(self._stacks) > _MAX_CACHED:
                self._stacks.popitem(last=False)
            return stacked

    def _of_task(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        if task not in self._by_task:
            encoder = self._bundle.manifest.encoder
            router = encoder.routers[task]
            biases = self._biases(router)
            weight_LDE = np.stack([self._read(name, (encoder.dim, encoder.experts)) for name in router.weights])
            zeros_E = np.zeros(encoder.experts, np.float32)
            bias_LE = np.stack([zeros_E if name is None else self._read(name, zeros_E.shape) for name in biases])
            self._by_task[task] = weight_LDE, bias_LE
        return self._by_task[task]

    def _biases(self, router: RouterSpec) -> tuple[str | None, ...]:
        if self._all_experts and router.paths is not None and router.paths.open_biases:
            return router.paths.open_biases
        return router.biases or (None,) * len(router.weights)

    def _read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        tensor = self._bundle.tensor(name)
        if tensor.shape != shape:
            raise WeightsError(f"router {name!r} must have the shape {list(shape)}, got {list(tensor.shape)}")
        return tensor.astype(np.float32)
