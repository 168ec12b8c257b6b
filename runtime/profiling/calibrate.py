"""Measuring a profile: what every graph, and what every part of a call around them, costs on this device.

    scout    graphs are loaded in the order of what they tell (calibrate_points.py), each run twice: how long it takes,
             how much memory; it ends where the rounds over what was found so far would no longer fit the time
    rounds   all of it, and whole calls, in turn, again and again (calibrate_rounds.py)
    energy   where there is a meter: the power of whole calls and of the first points, a window each
    fit      the fixed part of a call, and how far predictions of the held-out calls are off

What does not fit the time limit is interpolated by the profile, and marked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from time import perf_counter, sleep
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..imaging.images import ImageSource
from .calibrate_calls import CallSpec, fit_calls
from .calibrate_points import RunPoint, list_points
from .calibrate_rounds import Rounds, Timing
from .calibrate_steps import Calibration, PostprocessSpec, PreprocessSpec, Progress
from .device import busy_share, cpu_times
from .energy import FoundMeter, find_meter
from .profile import Profile, conditions_of
from .profile_data import (
    SCHEMA_VERSION,
    CallFit,
    GraphPoint,
    PostprocessPoint,
    PreprocessPoint,
    ProfileData,
    Quality,
)

if TYPE_CHECKING:
    from ..engine import Engine


def calibrate(
    engine: Engine,
    *,
    time_limit_s: float = 60.0,
    images: Sequence[ImageSource] | None = None,
    progress: Callable[[Progress], None] | None = None,
    meter: FoundMeter | None = None,
    seed: int = 0,
    clock: Callable[[], float] = perf_counter,
    sleep: Callable[[float], object] = sleep,
) -> Profile:
    """Measure what the engine's bundle costs on this device. The profile is not stored: call its `save`.

    Args:
        engine: nothing else may use it meanwhile.
        time_limit_s: more is measured, and more precisely, the longer it is. On slow devices at least an encoder, a
            head and three rounds are measured, even if that takes longer.
        images: pictures as users will send them (which experts are visited depends on them).
        meter: where energy is read; None for what the device has.

    Raises:
        BackendError, GraphError: a graph cannot be loaded or run.
        ImageError: one of `images` cannot be used.
    """
    chosen = find_meter(gpu=bool(getattr(engine.backend, "uses_gpu", False))) if meter is None else meter
    work = Calibration(
        engine,
        time_limit_s=time_limit_s,
        images=images,
        progress=progress,
        has_meter=chosen.meter is not None,
        seed=seed,
        clock=clock,
        sleep=sleep,
    )
    before = cpu_times()
    work.scout()
    rounds = work.measure()
    busy = busy_share(before, cpu_times())
    idle_w, power_w = None, {}
    if chosen.meter is not None:
        try:
            idle_w, power_w = work.measure_energy(chosen.meter)
        finally:
            chosen.meter.close()
    return _finish(work, rounds, busy, chosen, idle_w, power_w)


def _finish(
    work: Calibration,
    rounds: Rounds,
    busy: float | None,
    meter: FoundMeter,
    idle_w: float | None,
    power_w: dict[int, float],
) -> Profile:
    from ... import __version__

    engine, found = work.engine, list(zip(work.probes, rounds.timings))
    pairs = [(probe.subject, timing) for probe, timing in found]
    graphs = tuple(
        _graph_point(subject, timing, work.activations_mb.get(subject.key), power_w.get(index))
        for index, (subject, timing) in enumerate(pairs)
        if isinstance(subject, RunPoint)
    )
    call_watts = [w for i, w in power_w.items() if isinstance(work.probes[i].subject, CallSpec)]
    calls = [(s, t) for s, t in pairs if isinstance(s, CallSpec)]
    data = ProfileData(
        schema_version=SCHEMA_VERSION,
        slimpath_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        conditions=conditions_of(engine.bundle, engine.backend, engine.tier),
        graphs=graphs,
        preprocessing=tuple(
            PreprocessPoint(s.image_hw, s.size_hw, t.median_ms) for s, t in pairs if isinstance(s, PreprocessSpec)
        ),
        postprocessing=tuple(
            PostprocessPoint(s.task, s.size_hw, t.median_ms) for s, t in pairs if isinstance(s, PostprocessSpec)
        ),
        calls=tuple(spec.as_point(t.median_ms, t.p95_ms, len(t.samples_ms)) for spec, t in calls),
        fit=CallFit(),
        headroom=_headroom([timing for _, timing in calls]),
        quality=Quality(
            seconds=work.clock() - work.started,
            rounds=rounds.count,
            rounds_kept=rounds.kept,
            drift=rounds.drift,
            others_busy=busy,
            points_possible=len(list_points(engine.bundle.manifest, engine.planner.precisions, engine.planner.top_ks)),
        ),
        meter="" if meter.meter is None else meter.meter.name,
        no_meter=meter.reason,
        idle_w=idle_w,
        call_power_w=float(np.median(call_watts)) if call_watts else None,
        load_ms=work.load_ms,
    )
    return _with_fit(data, [spec for spec, _ in calls], engine)


def _graph_point(point: RunPoint, timing: Timing, activations_mb: float | None, power_w: float | None) -> GraphPoint:
    return GraphPoint(*point.key, timing.median_ms, timing.p95_ms, len(timing.samples_ms), activations_mb, power_w)


def _headroom(timings: Sequence[Timing]) -> float:
    """p95 over median, over all calls together: each call alone has too few samples for its own."""
    ratios = [sample / timing.median_ms for timing in timings for sample in timing.samples_ms]
    return max(float(np.percentile(ratios, 95)), 1.0) if ratios else 1.0


def _with_fit(data: ProfileData, specs: Sequence[CallSpec], engine: Engine) -> Profile:
    """The profile with the fixed part of a call fitted, and tested on the calls that were held out."""
    manifest = engine.bundle.manifest
    plain = Profile(data, manifest)
    parts_ms = [plain.configuration_ms(point) for point in data.calls]
    fitted = [i for i, point in enumerate(data.calls) if point.fitted]
    fit = fit_calls(
        [len(data.calls[i].decoder_widths) for i in fitted],
        [parts_ms[i] for i in fitted],
        [data.calls[i].latency_ms for i in fitted],
    )
    profile = Profile(msgspec.structs.replace(data, fit=fit), manifest)
    calls = tuple(msgspec.structs.replace(p, predicted_ms=profile.configuration_ms(p)) for p in data.calls)
    errors = [abs(point.predicted_ms / point.latency_ms - 1) for point in calls if not point.fitted]
    quality = data.quality
    if errors:
        quality = msgspec.structs.replace(
            quality, median_error=float(np.median(errors)), p95_error=float(np.percentile(errors, 95))
        )
    return Profile(msgspec.structs.replace(profile.data, calls=calls, quality=quality), manifest)
