"""A bundle becomes answers: plan, load, encode once, decode per task.

All tasks of an image run as one encoder batch whose rows share the image; rows differ in their task's routers. A batch
of requests does the same over several images.
Axes: I images, B encoder rows, R rows of one task, C channels, H height, W width.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from . import graph_names as names
from .backends import make_backend
from .backends.base import Backend, Session, Tier
from .batching import Batch, Prepared, make_batches
from .budget import Budget, BudgetRequest
from .bundle import Bundle
from .bundled import bundled_path
from .errors import BackendError, GraphError, SizeError, SlimpathError
from .images import MAX_PIXELS, ImageSource, load_image
from .planner import Plan, Planner, SizeRequest
from .postprocess import finish, softmax_classes, to_image
from .preprocess import preprocess
from .request import OutputSize, Request
from .result import Result
from .routing import Routers
from .sessions import SessionPool
from .tasks import TaskRequest, TaskSpec

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

MAX_OUTPUT_PIXELS = 16_000_000  # six tasks of a 16-megapixel picture are half a gigabyte of float32
MAX_ROWS = 32  # of one encoder call: bounds its memory, and is past where batching still gains


class Engine:
    """Answers requests from one bundle. Safe to use from several threads; make it with `Engine.load`."""

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        tier: Tier = "packed",
        max_pixels: float = MAX_PIXELS,
        max_output_pixels: float = MAX_OUTPUT_PIXELS,
    ) -> None:
        self.bundle = bundle
        self.planner = Planner(bundle.manifest)
        self.max_pixels = max_pixels
        self.max_output_pixels = max_output_pixels
        self._sessions = SessionPool(bundle, backend, tier=tier)
        self._routers = Routers(bundle)
        self._specs = {task.name: task for task in bundle.manifest.tasks}
        self._executor: ThreadPoolExecutor | None = None
        self._executor_lock = threading.Lock()
        self._closed = False

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        *,
        threads: int | None = None,
        backend: str | Backend = "onnxruntime",
        tier: Tier = "packed",
        max_pixels: float = MAX_PIXELS,
        max_output_pixels: float = MAX_OUTPUT_PIXELS,
    ) -> Engine:
        """Open a bundle; graphs load on first use.

        Args:
            bundle: a folder, an open Bundle, or None for the bundled model.
            threads: of each session; None for the CPUs that this process may use.
            tier: "packed" runs faster, "mapped" lets all widths share one copy of the weights.
            max_pixels: refuse larger pictures.
            max_output_pixels: refuse larger outputs with output_size="original".

        Raises:
            BundleError: not a bundle, or a damaged one.
            BackendError: no such backend.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundled_path() if bundle is None else bundle)
        chosen = make_backend(backend, threads=threads) if isinstance(backend, str) else backend
        return cls(opened, chosen, tier=tier, max_pixels=max_pixels, max_output_pixels=max_output_pixels)

    @property
    def tasks(self) -> dict[str, TaskSpec]:
        """The bundle's tasks by name."""
        return dict(self._specs)

    def plan(
        self,
        tasks: TaskRequest = None,
        budget: BudgetRequest | Budget | Plan = None,
        *,
        size: SizeRequest = None,
        strict: bool = False,
    ) -> Plan:
        """The configuration that a call with these arguments would run. See `Planner.plan`."""
        return self.planner.plan(tasks, budget, size=size, strict=strict)

    def curve(
        self,
        tasks: TaskRequest = None,
        budget: BudgetRequest | Budget = None,
        *,
        size: SizeRequest = None,
        points: int = 20,
    ) -> list[Plan]:
        """Plans along the Pareto set, cheapest first. See `Planner.curve`."""
        return self.planner.curve(tasks, budget, size=size, points=points)

    def __call__(
        self,
        image: ImageSource,
        tasks: TaskRequest = None,
        budget: BudgetRequest | Budget | Plan = None,
        *,
        size: SizeRequest = None,
        output_size: OutputSize = "network",
        features: bool = False,
        probabilities: bool = False,
        strict: bool = False,
    ) -> Result:
        """Answer one request. The arguments are those of `Request`.

        Raises:
            ImageError, TaskError, BudgetError, SizeError: the request cannot be used.
            BackendError: the inference library failed.
        """
        return self.run_batch(
            [Request(image, tasks, budget, size, output_size, features, probabilities, strict)],
        )[0]

    async def arun(
        self,
        image: ImageSource,
        tasks: TaskRequest = None,
        budget: BudgetRequest | Budget | Plan = None,
        *,
        size: SizeRequest = None,
        output_size: OutputSize = "network",
        features: bool = False,
        probabilities: bool = False,
        strict: bool = False,
    ) -> Result:
        """`engine(...)` in a thread of its own, so that an event loop goes on meanwhile."""
        import asyncio  # here: importing the engine is a tenth faster without

        request = Request(image, tasks, budget, size, output_size, features, probabilities, strict)
        loop = asyncio.get_running_loop()
        with self._executor_lock:
            future = loop.run_in_executor(self._threads(), partial(self.run_batch, [request]))
        return (await future)[0]

    @overload
    def run_batch(self, requests: Iterable[Request], *, return_errors: Literal[False] = False) -> list[Result]: ...

    @overload
    def run_batch(self, requests: Iterable[Request], *, return_errors: bool) -> list[Result | SlimpathError]: ...

    def run_batch(
        self, requests: Iterable[Request], *, return_errors: bool = False
    ) -> list[Result] | list[Result | SlimpathError]:
        """Answer several requests, sharing encoder calls and heads wherever size and width agree.

        Args:
            return_errors: put a request's error in its place and answer the others; otherwise the first is raised.

        Returns:
            One answer per request, in their order.
        """
        started = perf_counter()
        answers: dict[int, Result | SlimpathError] = {}
        prepared: list[Prepared] = []
        for index, request in enumerate(requests):
            try:
                prepared.append(self._prepare(index, request))
            except SlimpathError as error:
                if not return_errors:
                    raise
                answers[index] = error
        for batch in make_batches(prepared, rows_per_task=self.bundle.manifest.is_moe, max_rows=MAX_ROWS):
            try:
                results = self._run(batch)
            except SlimpathError as error:
                if not return_errors:
                    raise
                answers.update({item.index: error for item in batch.items})
                continue
            answers.update({item.index: result for item, result in zip(batch.items, results)})
        for answer in answers.values():
            if isinstance(answer, Result):
                answer.timings_ms["total"] = _ms_since(started)
        return [answers[index] for index in sorted(answers)]

    def close(self) -> None:
        """Free the sessions. A second call does nothing."""
        self._sessions.close()
        with self._executor_lock:
            self._closed = True
            if self._executor is not None:
                self._executor.shutdown(wait=False)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _threads(self) -> ThreadPoolExecutor:
        if self._closed:
            raise BackendError("the engine is closed", hint="load it again")
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            # Two: one decodes while the other computes; more would only wait for the same cores.
            self._executor = ThreadPoolExecutor(2, thread_name_prefix="slimpath")
        return self._executor

    def _prepare(self, index: int, request: Request) -> Prepared:
        plan = self.planner.plan(request.tasks, request.budget, size=request.size, strict=request.strict)
        if request.output_size not in ("network", "original"):
            raise SizeError(f'output_size must be "network" or "original", got {request.output_size!r}')
        preprocessing = self.bundle.manifest.preprocessing
        started = perf_counter()
        image = load_image(request.image, plane_hw=plan.size_hw, fit=preprocessing.fit, max_pixels=self.max_pixels)
        decoded = perf_counter()
        pixels = image.size_hw[0] * image.size_hw[1]
        if request.output_size == "original" and pixels > self.max_output_pixels:
            raise SizeError(
                f"outputs of {pixels / 1e6:.1f} megapixels were asked for, "
                f"at most {self.max_output_pixels / 1e6:.1f} are made",
                hint='use output_size="network", or load the engine with a larger max_output_pixels',
            )
        plane_CHW, placement = preprocess(image.rgb, plan.size_hw, preprocessing, image_hw=image.size_hw)
        timings_ms = {"decode": (decoded - started) * 1e3, "preprocess": _ms_since(decoded)}
        return Prepared(index, request, plan, plane_CHW, placement, timings_ms)

    def _run(self, batch: Batch) -> list[Result]:
        started = perf_counter()
        encoded = self._encode(batch)
        encoder_ms = _ms_since(started)
        started = perf_counter()
        outputs = self._decode(batch, encoded[names.TOKENS], encoded.get(names.DETAIL))
        heads_ms = _ms_since(started)
        results = []
        for image, item in enumerate(batch.items):
            item.timings_ms.update(encoder=encoder_ms, heads=heads_ms)
            rows = sorted({batch.row_of[image, task] for task in item.plan.decoder_widths})
            features = encoded[names.TOKENS][rows] if item.request.features else None
            results.append(
                self._finish(item, {task: outputs[image, task] for task in item.plan.decoder_widths}, features)
            )
        return results

    def _encode(self, batch: Batch) -> dict[str, np.ndarray]:
        plan, manifest = batch.items[0].plan, self.bundle.manifest
        planes = [item.plane_CHW for item in batch.items]
        feeds = {
            names.IMAGE: planes[0][None] if len(planes) == 1 else np.stack(planes),
            names.IMAGE_INDEX: np.array([row.image for row in batch.rows], np.int64),
        }
        if manifest.is_moe:
            feeds[names.TOP_K] = np.array([row.top_k for row in batch.rows], np.int64)
            feeds[names.ROUTER], feeds[names.ROUTER_BIAS] = self._routers.stack([row.tasks[0] for row in batch.rows])
        session = self._sessions.get(self.bundle.graph("encoder", plan.size_hw, plan.encoder_width))
        # A run over several images leaves 200-300 MB behind in each session's arena unless it is told to give it back.
        return _run_session(session, feeds, names.TOKENS, shrink=len(planes) > 1)

    def _decode(
        self, batch: Batch, tokens_BND: np.ndarray, detail_ICHW: np.ndarray | None
    ) -> dict[tuple[int, str], np.ndarray]:
        """The output row of every (image, task); one call per task and decoder width."""
        members: dict[tuple[str, float], list[int]] = {}
        for image, item in enumerate(batch.items):
            for task, width in item.plan.decoder_widths.items():
                members.setdefault((task, width), []).append(image)
        outputs: dict[tuple[int, str], np.ndarray] = {}
        size_hw = batch.items[0].plan.size_hw
        for (task, width), images in members.items():
            session = self._sessions.get(self.bundle.graph("head", size_hw, width, task))
            feeds = {names.TOKENS: _take(tokens_BND, [batch.row_of[image, task] for image in images])}
            if detail_ICHW is not None:
                feeds[names.DETAIL] = _take(detail_ICHW, images)
            output = _run_session(session, feeds, task, shrink=len(images) > 1)[task]
            outputs.update({(image, task): output[row] for row, image in enumerate(images)})
        return outputs

    def _finish(self, item: Prepared, outputs: dict[str, np.ndarray], features: np.ndarray | None) -> Result:
        started = perf_counter()
        values: dict[str, np.ndarray] = {}
        probabilities: dict[str, np.ndarray] = {}
        for task, output in outputs.items():
            kind = self._specs[task].kind
            values[task] = finish(kind, output)
            if item.request.output_size == "original":
                values[task] = to_image(kind, values[task], item.placement)
            if item.request.probabilities and kind == "classes":
                probabilities[task] = softmax_classes(output)
        item.timings_ms["postprocess"] = _ms_since(started)
        specs = {task: self._specs[task] for task in values}
        return Result(
            values, item.plan, item.timings_ms, item.placement, item.placement.image_hw, specs, features, probabilities
        )


def _take(array: np.ndarray, rows: list[int]) -> np.ndarray:
    """array[rows], without a copy where the rows follow one another."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return array[rows[0] : rows[0] + len(rows)]
    return array[rows]


def _run_session(
    session: Session, feeds: dict[str, np.ndarray], expected: str, *, shrink: bool
) -> dict[str, np.ndarray]:
    """Feed a session what it asks for (graphs may do without the detail, or without the image index)."""
    missing = [name for name in session.inputs if name not in feeds]
    if missing:
        raise GraphError(f"the graph wants the input {missing[0]!r}; there are {', '.join(feeds)}")
    outputs = session.run({name: feeds[name] for name in session.inputs}, shrink=shrink)
    if expected not in outputs:
        raise GraphError(f"the graph must have the output {expected!r}; it has {', '.join(outputs)}")
    return outputs


def _ms_since(started: float) -> float:
    return (perf_counter() - started) * 1e3
