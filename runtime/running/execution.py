"""A batch -> results: the encoder once, each head once per task and decoder width, then each answer by itself.

Axes: I images, B encoder rows, R rows of one task, N tokens, D dim, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np

from ..backends.base import Session
from ..bundles import graph_names as names
from ..bundles.bundle import Bundle
from ..bundles.graph_spec import GraphSpec
from ..errors import BackendError, GraphError
from ..imaging.postprocess import finish, softmax_classes, to_image
from ..planning.plan import Plan
from ..result import Result
from .adapters import Adapters
from .batching import Batch, Prepared
from .routing import Routers
from .sessions import SessionPool

Outputs = dict[tuple[int, str], np.ndarray]  # of (image, task), one row of its head


class Executor:
    """Runs batches on the sessions of a pool. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, sessions: SessionPool) -> None:
        self._bundle = bundle
        self._sessions = sessions
        self._routers = Routers(bundle)
        self._adapters = Adapters(bundle)
        self._specs = {task.name: task for task in bundle.manifest.tasks}

    def run(self, batch: Batch) -> list[Result]:
        """The results of a batch's items, in their order; `timings_ms["total"]` is left to the caller.

        Raises:
            BackendError: the inference library failed, or memory ran out.
            GraphError, WeightsError: a graph or a router is not what the manifest says.
        """
        try:
            started = perf_counter()
            encoded = self._encode(batch)
            decoding = perf_counter()
            outputs = self._decode(batch, encoded)
            timings_ms = {"encoder": (decoding - started) * 1e3, "heads": (perf_counter() - decoding) * 1e3}
            return [
                self._finish(batch, image, outputs, encoded[names.TOKENS], timings_ms)
                for image in range(len(batch.items))
            ]
        except MemoryError as error:
            raise BackendError("there is not enough memory for this batch", hint="ask for fewer or smaller") from error

    def _encode(self, batch: Batch) -> dict[str, np.ndarray]:
        planes = [item.plane_CHW for item in batch.items]
        graph = encoder_graph(self._bundle, batch.items[0].plan)
        feeds = {
            names.IMAGE: planes[0][None] if len(planes) == 1 else np.stack(planes),
            names.IMAGE_INDEX: np.array([row.image for row in batch.rows], np.int64),
        }
        tasks = [row.tasks[0] for row in batch.rows]
        if self._bundle.manifest.is_moe:
            feeds[names.TOP_K] = np.array([row.top_k for row in batch.rows], np.int64)
            feeds[names.ROUTER], feeds[names.ROUTER_BIAS] = self._routers.stack(tasks)
        if graph.adapter_rows:
            feeds[names.ADAPTER] = self._adapters.stack(graph, tasks)
        session = self._sessions.get(graph)
        _require_inputs(session, feeds)
        # A run over several images needs a multiple of the usual memory: it is given back at once.
        if len(planes) == 1:
            self._sessions.most_rows = max(self._sessions.most_rows, len(batch.rows))
        outputs = session.run({name: feeds[name] for name in session.inputs}, shrink=len(planes) > 1)
        return _require_output(outputs, names.TOKENS)

    def _decode(self, batch: Batch, encoded: dict[str, np.ndarray]) -> Outputs:
        """One call per task and decoder width."""
        members: dict[tuple[str, float], list[int]] = {}
        for image, item in enumerate(batch.items):
            for task, width in item.plan.decoder_widths.items():
                members.setdefault((task, width), []).append(image)
        outputs: Outputs = {}
        plan = batch.items[0].plan  # of one size and precision, all of them
        for (task, width), images in members.items():
            session = self._sessions.get(head_graph(self._bundle, plan, task, width))
            _require_inputs(session, encoded)
            rows = [batch.row_of[image, task] for image in images]
            feeds = {name: _take(encoded[name], images if name == names.DETAIL else rows) for name in session.inputs}
            found = _require_output(session.run(feeds, shrink=len(images) > 1), task)[task]
            outputs.update({(image, task): found[row] for row, image in enumerate(images)})
        return outputs

    def _finish(
        self, batch: Batch, image: int, outputs: Outputs, tokens_BND: np.ndarray, timings_ms: dict[str, float]
    ) -> Result:
        started = perf_counter()
        item: Prepared = batch.items[image]
        request, tasks = item.request, list(item.plan.decoder_widths)
        specs = {task: self._specs[task] for task in tasks}
        values = {task: finish(spec.kind, outputs[image, task]) for task, spec in specs.items()}
        if request.output_size == "original":
            values = {task: to_image(specs[task].kind, value, item.placement) for task, value in values.items()}
        probabilities = {}
        if request.probabilities:
            classes = [task for task, spec in specs.items() if spec.kind == "classes"]
            probabilities = {task: softmax_classes(outputs[image, task]) for task in classes}
        features = None
        if request.features:
            features = tokens_BND[sorted({batch.row_of[image, task] for task in tasks})]
        item.timings_ms.update(timings_ms, postprocess=(perf_counter() - started) * 1e3)
        return Result(
            values, item.plan, item.timings_ms, item.placement, item.placement.image_hw, specs, features, probabilities
        )


def encoder_graph(bundle: Bundle, plan: Plan) -> GraphSpec:
    """The encoder that a plan runs."""
    return bundle.graph("encoder", plan.size_hw, plan.encoder_width, precision=plan.precision)


def head_graph(bundle: Bundle, plan: Plan, task: str, width: float) -> GraphSpec:
    """A head of a plan's size and precision (fp32 where the bundle has no other)."""
    return bundle.graph("head", plan.size_hw, width, task, precision=plan.precision)


def graphs_of(bundle: Bundle, plan: Plan) -> list[GraphSpec]:
    """All graphs that a plan runs, the encoder first."""
    heads = [head_graph(bundle, plan, task, width) for task, width in plan.decoder_widths.items()]
    return [encoder_graph(bundle, plan), *heads]


def _take(array: np.ndarray, rows: list[int]) -> np.ndarray:
    """array[rows], without a copy where the rows follow one another."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return array[rows[0] : rows[0] + len(rows)]
    return array[rows]


def _require_inputs(session: Session, feeds: Mapping[str, np.ndarray]) -> None:
    """A graph may do without some of them (the detail, the image index), but there is nothing else to feed."""
    for name in session.inputs:
        if name not in feeds:
            raise GraphError(f"the graph wants the input {name!r}; there are {', '.join(feeds)}")


def _require_output(outputs: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    if name not in outputs:
        raise GraphError(f"the graph must have the output {name!r}; it has {', '.join(outputs)}")
    return outputs
