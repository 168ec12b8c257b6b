"""What calibration does, step by step: scout, rounds, energy. `calibrate` puts the steps together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..footprint.memory import peak_bytes, release_free_memory, reset_peak, rss_bytes
from ..imaging.images import ImageSource
from .calibrate_bench import IMAGE_SIZES_HW, Workbench
from .calibrate_calls import CallSpec, call_run, draw_calls
from .calibrate_points import RunPoint, list_points
from .calibrate_rounds import Probe, Rounds, evaluate_rounds, run_rounds, time_once
from .energy import Meter, mean_power_w

if TYPE_CHECKING:
    from ..engine import Engine

CALLS = 36  # whole calls, a third of them held out
LEAST_CALLS = 6  # of which 4 are fitted, for three unknowns
WANTED_ROUNDS = 6  # scouting adds nothing where fewer would fit
_SCOUT_SHARE = 0.4  # of the time limit, at most
_GRAPH_SHARE = 0.6  # of the rounds; the rest is for whole calls
_ENERGY_SHARE = 0.25  # of it, where there is a meter
_IDLE_S, _POWER_S = 1.0, 0.2  # how long power is taken, or the meter's own window where that is longer
_LEAST_GRAPHS = 2  # an encoder and a head, however short the time


@dataclass(frozen=True)
class Progress:
    """How far calibration is.

    Args:
        phase: "scout", "rounds" or "energy".
        what: that is measured now.
    """

    phase: str
    what: str
    elapsed_s: float
    limit_s: float

    @property
    def left_s(self) -> float:
        """Until it is done; never below 0."""
        return max(self.limit_s - self.elapsed_s, 0.0)


@dataclass(frozen=True)
class PreprocessSpec:
    image_hw: tuple[int, int]
    size_hw: tuple[int, int]

    def __str__(self) -> str:
        return f"preprocessing {self.image_hw[1]}x{self.image_hw[0]}"


@dataclass(frozen=True)
class PostprocessSpec:
    task: str
    size_hw: tuple[int, int]

    def __str__(self) -> str:
        return f"postprocessing {self.task}"


class Calibration:
    """One measurement of one engine; see `calibrate`, which is how to use it."""

    def __init__(
        self,
        engine: Engine,
        *,
        time_limit_s: float,
        images: Sequence[ImageSource] | None,
        progress: Callable[[Progress], None] | None,
        has_meter: bool,
        seed: int,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        self.engine, self.limit_s, self.clock, self.seed = engine, time_limit_s, clock, seed
        self._sleep = sleep
        self.bench = Workbench(engine.bundle, engine.session, images)
        self.load_ms: dict[str, float] = {}
        self.activations_mb: dict[tuple[str, int, int, int], float] = {}
        self.probes: list[Probe] = []
        self._report = progress
        self.started = clock()
        # When the rounds end: after them comes energy, where it can be measured.
        self.deadline = self.started + time_limit_s * (1 - (_ENERGY_SHARE if has_meter else 0))

    def scout(self) -> None:
        """Fill `probes`: the fixed part of a call, then graphs as far as the time allows, then whole calls."""
        manifest = self.engine.bundle.manifest
        for size_hw in manifest.sizes:
            for image_hw in IMAGE_SIZES_HW:
                self._add(PreprocessSpec(image_hw, size_hw), self.bench.preprocess_run(image_hw, size_hw))
            for task in manifest.task_names:
                self._add(PostprocessSpec(task, size_hw), self.bench.postprocess_run(task, size_hw))
        files: set[str] = set()
        for point in list_points(manifest, self.engine.planner.precisions, self.engine.planner.top_ks):
            if len(files) >= _LEAST_GRAPHS and self._is_full():
                break
            self.tell("scout", str(point))
            self._scout_graph(point)
            files.add(point.graph.file)
        for number, spec in enumerate(draw_calls(self.engine, files, CALLS, seed=self.seed)):
            if number >= LEAST_CALLS and self._round_s() * WANTED_ROUNDS > self.deadline - self.clock():
                break
            self.tell("scout", str(spec))
            self._add(spec, call_run(self.engine, self.bench, spec))

    def measure(self) -> Rounds:
        """Time all probes until the deadline."""
        run_rounds(
            self.probes,
            until_s=self.deadline,
            clock=self.clock,
            seed=self.seed,
            report=lambda number, probe: self.tell("rounds", f"round {number + 1}: {probe.subject}"),
        )
        return evaluate_rounds(self.probes)

    def measure_energy(self, meter: Meter) -> tuple[float, dict[int, float]]:
        """Watts of the idle device, and above idle of probes, by their number; calls and graphs in turn."""
        self.tell("energy", "idle")
        idle_w = mean_power_w(meter, _IDLE_S, work=lambda: self._sleep(0.05), clock=self.clock)
        calls = [i for i, probe in enumerate(self.probes) if isinstance(probe.subject, CallSpec)]
        graphs = [i for i, probe in enumerate(self.probes) if isinstance(probe.subject, RunPoint)]
        # Of each kind of call and graph a few say nearly all: power hardly depends on the width.
        order = [i for pair in zip(calls, graphs) for i in pair] + graphs[len(calls) :]
        power_w: dict[int, float] = {}
        for index in order:
            if self.clock() >= self.started + self.limit_s and len(power_w) >= 2:
                break
            probe = self.probes[index]
            self.tell("energy", str(probe.subject))
            watts = mean_power_w(meter, _POWER_S, work=probe.run, clock=self.clock)
            power_w[index] = max(watts - idle_w, 0.0)
        return idle_w, power_w

    def tell(self, phase: str, what: str) -> None:
        """Report progress to whoever asked for it."""
        if self._report is not None:
            self._report(Progress(phase, what, self.clock() - self.started, self.limit_s))

    def _add(self, subject: object, run: Callable[[], object]) -> None:
        run()  # the first run allocates and loads
        self.probes.append(Probe(subject, run, expected_ms=time_once(run, self.clock)))

    def _scout_graph(self, point: RunPoint) -> None:
        if point.graph.file not in self.load_ms:
            load = time_once(lambda: self.engine.session(point.graph), self.clock)
            self.load_ms[point.graph.file] = load
        run = self.bench.graph_run(point)
        # Whatever is free is given back first, so that all that the run needs shows in the peak, also where several
        # graphs share an arena that an earlier one has filled.
        run(shrink=True)
        release_free_memory()
        resident, watched = rss_bytes(), reset_peak()
        run()
        peak = peak_bytes() if watched else None
        if peak is not None and resident is not None:
            self.activations_mb[point.key] = max(peak - resident, 0) / 1e6
        self.probes.append(Probe(point, run, expected_ms=time_once(run, self.clock)))

    def _is_full(self) -> bool:
        """Would the rounds over what there is fill their share of the time?"""
        now = self.clock()
        scouted = now - self.started > _SCOUT_SHARE * self.limit_s
        return scouted or self._round_s() * WANTED_ROUNDS > _GRAPH_SHARE * (self.deadline - now)

    def _round_s(self) -> float:
        return sum(probe.block_ms for probe in self.probes) / 1e3
