"""A bundle becomes answers: plan, load, encode once, decode per task.

All tasks of an image run as one encoder batch whose rows share the image; rows differ in their task's routers. A batch
of requests does the same over several images. The files: `choosing` plans, `preparing` reads pictures, `batching`
groups, `sessions` holds the loaded graphs, `execution` runs them, `answering` goes through all of it. `views` lets task
packs come and go between two requests. `opening` puts these together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal, overload

from .backends import make_backend
from .backends.base import Backend, Session, Tier
from .bundles.bundle import Bundle
from .bundles.bundled import bundled_path
from .bundles.graph_spec import GraphSpec
from .errors import SlimpathError
from .footprint.memory_report import MemoryReport, MemoryReporter
from .imaging.images import MAX_PIXELS, ImageSource
from .planning.budget import BudgetRequest
from .planning.plan import Plan
from .planning.planner import Planner
from .planning.sizes import SizeRequest
from .request import OutputSize, Request
from .result import Result
from .running.call_threads import CallThreads
from .running.opening import open_profile, open_sessions, open_views, watch_for
from .running.preparing import MAX_OUTPUT_PIXELS, PixelLimits
from .running.tiers import TierRequest, final_tier
from .running.warming import Progress, grey_request, warm
from .tasks import TaskRequest, TaskSpec

if TYPE_CHECKING:
    from .health.reading import Reading
    from .health.watch import Watch
    from .packs.pack import Pack
    from .planning.budget import Budget
    from .profiling.profile import Profile
    from .running.controller import Controller


class Engine:
    """Answers requests from one bundle. Safe to use from several threads; make it with `Engine.load`.

    Args:
        tier: of the sessions, see `sessions`.
        profile: what the graphs cost on this device; None for FLOPs alone. With one, a controller keeps limits in ms.
        memory_limit_mb: of the whole process, in 1e6 bytes; None for none.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        tier: TierRequest = "auto",
        profile: Profile | None = None,
        memory_limit_mb: float | None = None,
        max_pixels: float = MAX_PIXELS,
        max_output_pixels: float = MAX_OUTPUT_PIXELS,
    ) -> None:
        self.backend = backend
        self.profile = profile
        self.profile_refusal = ""
        self.sessions, model = open_sessions(bundle, backend, tier, memory_limit_mb)
        self._tier: TierRequest = tier
        self._views = open_views(
            bundle,
            backend,
            self.sessions,
            model,
            profile=profile,
            memory_limit_mb=memory_limit_mb,
            limits=PixelLimits(max_pixels, max_output_pixels),
        )
        self._reporter = MemoryReporter(bundle, model, memory_limit_mb)
        self._threads = CallThreads()
        self._watch: Watch | None = None

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        *,
        threads: int | None = None,
        backend: str | Backend = "onnxruntime",
        tier: TierRequest = "auto",
        profile: Profile | Literal["auto"] | None = "auto",
        memory_limit_mb: float | None = None,
        max_pixels: float = MAX_PIXELS,
        max_output_pixels: float = MAX_OUTPUT_PIXELS,
        packs: Iterable[str | os.PathLike[str] | Pack] = (),
    ) -> Engine:
        """Open a bundle; graphs load on first use, or with `warm`.

        Args:
            bundle: a folder, an open Bundle, or None for the bundled model.
            threads: of each session; None for the CPUs that this process may use.
            backend: a name, see `backends.backend_names()`; "auto" takes what measured fastest.
            tier: "auto" answers any configuration at once and packs the hot ones in the background; "packed" packs
                on first use; "mapped" lets all widths share one copy of the weights, and runs slower.
            profile: "auto" for the one that `slimpath calibrate` stored, if it holds here; `profile_refusal` says why
                there is none.
            memory_limit_mb: of the whole process, in 1e6 bytes: sessions are dropped and plans lowered to keep it.
            max_pixels: refuse larger pictures.
            max_output_pixels: refuse larger outputs with output_size="original".
            packs: tasks to add at once, see `add_pack`.

        Raises:
            BundleError: not a bundle or pack, a damaged one, or a pack that is not for this bundle.
            BackendError: no such backend.
            BudgetError: memory_limit_mb is not above 0.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundled_path() if bundle is None else bundle)
        chosen = make_backend(backend, threads=threads, bundle=opened) if isinstance(backend, str) else backend
        found, refusal = (profile, "") if profile != "auto" else open_profile(opened, chosen, final_tier(tier))
        engine = cls(
            opened,
            chosen,
            tier=tier,
            profile=found,
            memory_limit_mb=memory_limit_mb,
            max_pixels=max_pixels,
            max_output_pixels=max_output_pixels,
        )
        engine.profile_refusal = refusal
        if engine.controller is not None:
            engine._watch = watch_for(engine, engine.controller)
        try:
            for pack in packs:
                engine.add_pack(pack)
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def tasks(self) -> dict[str, TaskSpec]:
        """The tasks of the bundle and of its packs, by name."""
        return dict(self._views.current.specs)

    @property
    def bundle(self) -> Bundle:
        """The bundle, with the tasks of the packs that were added."""
        return self._views.current.bundle

    @property
    def planner(self) -> Planner:
        """What plans for the bundle and the packs that it has now."""
        return self._views.current.planner

    @property
    def packs(self) -> dict[str, Pack]:
        """The packs that were added, by the task that each brought."""
        return dict(self._views.current.packs)

    def add_pack(self, pack: str | os.PathLike[str] | Pack) -> TaskSpec:
        """Answer one more task from now on: a task pack of `slimpath add-task`. Requests under way are not disturbed.

        Args:
            pack: its folder, or an open one.

        Returns:
            The task that it brought.

        Raises:
            PackError: no pack, a damaged one, one for another bundle or with a task that exists, or one that this
                engine's backend cannot run.
            GraphError, WeightsError: one of its files is damaged.
        """
        from .packs.pack import Pack  # here: an engine without packs has no use for it

        opened = pack if isinstance(pack, Pack) else Pack.open(pack)
        self._views.add(opened)
        return opened.task

    def remove_pack(self, task: str) -> None:
        """Answer a pack's task no more. Requests under way are answered; then its sessions are let go.

        Raises:
            TaskError: no pack brought such a task.
        """
        self._views.remove(task)

    @property
    def tier(self) -> Tier:
        """The tier that graphs end in: what a profile of this engine is measured in."""
        return final_tier(self._tier)

    @property
    def controller(self) -> Controller | None:
        """What keeps limits in ms while the device changes; None without a profile."""
        return self._views.current.chooser.controller

    @property
    def health(self) -> Reading | None:
        """Heat and brakes, as last seen; None where the device has no such files, or limits in ms are not kept."""
        return None if self._watch is None else self._watch.latest

    def session(self, graph: GraphSpec) -> Session:
        """The session of a graph in the tier that it ends in, for measuring it alone.

        Raises:
            BackendError: it cannot be loaded, or the engine is closed.
        """
        return self.sessions.load(graph, final=True)

    def plan(
        self,
        tasks: TaskRequest = None,
        budget: BudgetRequest | Budget | Plan = None,
        *,
        size: SizeRequest = None,
        strict: bool = False,
    ) -> Plan:
        """The configuration that a call with these arguments would run. See `Planner.plan`."""
        return self._views.current.chooser.plan(tasks, budget, size=size, strict=strict)

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

    def warm(
        self,
        tasks: TaskRequest = None,
        budgets: Iterable[BudgetRequest | Budget | Plan] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[Plan]:
        """Load graphs ahead of the first request and run each encoder once, as far as the memory limit allows.

        Args:
            budgets: the plans that are to be ready, in the tier that they end in ("auto": packed); None for every
                encoder and every head of the tasks, in the tier that they begin in ("auto": mapped; of a backend that
                begins with another: its own).
            progress: called with (what was done, steps done, steps in all).

        Returns:
            The plans that are ready.
        """
        with self._views.use() as view:
            return warm(self, view, tasks, budgets, progress)

    def memory(self) -> MemoryReport:
        """What the process, its sessions and the paths of its tasks hold. Takes some milliseconds."""
        return self._reporter.report(self.sessions)

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
        request = Request(image, tasks, budget, size, output_size, features, probabilities, strict)
        return (await self._threads.run(partial(self.run_batch, [request])))[0]

    @overload
    def run_batch(self, requests: Iterable[Request], *, return_errors: Literal[False] = False) -> list[Result]: ...

    @overload
    def run_batch(self, requests: Iterable[Request], *, return_errors: bool) -> list[Result | SlimpathError]: ...

    def run_batch(
        self, requests: Iterable[Request], *, return_errors: bool = False
    ) -> list[Result] | list[Result | SlimpathError]:
        """Answer several requests, sharing encoder calls and heads wherever size, width and precision agree.

        Args:
            return_errors: put a request's error in its place and answer the others, also those whose encoder call
                it made fail; otherwise the first is raised.

        Returns:
            One answer per request, in their order.
        """
        with self._views.use() as view:
            return view.answerer.run(requests, return_errors=return_errors)  # type: ignore[return-value]  # the overloads

    def rehearse(self, plan: Plan) -> None:
        """Run a plan once on a grey picture, unobserved: the first run of a graph takes longer than those after it."""
        with self._views.use() as view:
            view.answerer.rehearse(grey_request(plan))

    def close(self) -> None:
        """Free the sessions. A second call does nothing."""
        self.sessions.close()
        if self._watch is not None:
            self._watch.close()
        self._threads.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
