"""Calibration on a device on paper: the truth is known, so what is found can be held against it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.errors import ImageError
from slimpath.runtime.planning.costs import CostModel
from slimpath.runtime.profiling.calibrate import calibrate
from slimpath.runtime.profiling.calibrate_bench import default_pictures
from slimpath.runtime.profiling.calibrate_calls import draw_calls, fit_calls
from slimpath.runtime.profiling.calibrate_points import RunPoint, list_points
from slimpath.runtime.profiling.calibrate_rounds import LEAST_ROUNDS, Probe, evaluate_rounds, run_rounds
from slimpath.runtime.profiling.calibrate_steps import Progress
from slimpath.runtime.profiling.energy import FoundMeter
from slimpath.runtime.profiling.profile import Profile
from slimpath.tests.runtime.fake_device import PaperDevice

NO_METER = FoundMeter(None, "none in this test")


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """What takes real time here is fitting pictures, which takes none on paper."""
    for module in ("calibrate_steps", "calibrate_calls"):
        monkeypatch.setattr(f"slimpath.runtime.profiling.{module}.IMAGE_SIZES_HW", ((24, 32), (48, 64)))


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def measure(device: PaperDevice, time_limit_s: float, **options) -> Profile:  # type: ignore[no-untyped-def]
    options = {"meter": NO_METER, "clock": device.clock, "sleep": device.sleep, **options}
    with device.engine() as engine:
        return calibrate(engine, time_limit_s=time_limit_s, **options)


def errors(device: PaperDevice, profile: Profile, *, measured: bool | None = None) -> list[float]:
    """Relative errors of the profile over every way to run every graph on one picture."""
    found = []
    for point in list_points(device.bundle.manifest):
        where = {"images": point.images, "rows": point.rows, "top_k": point.top_k}
        cost = (
            profile.encoder(point.graph, **where)
            if point.graph.kind == "encoder"
            else profile.head(point.graph, rows=point.rows)
        )
        true_ms = device.true_ms(point.graph, point.images, point.rows, point.top_k)
        if measured is None or cost.measured == measured:
            assert cost.latency_ms is not None
            found.append(abs(cost.latency_ms / profile.data.fit.factor / true_ms - 1))
    return found


# --- what is found ----------------------------------------------------------------------------------------------


def test_with_time_enough_everything_is_measured_and_right(bundle):
    device = PaperDevice(bundle)
    profile = measure(device, 30.0)
    assert isinstance(profile, CostModel)
    assert len(profile.data.graphs) == profile.data.quality.points_possible == len(list_points(bundle.manifest))
    assert max(errors(device, profile)) < 1e-6 and not errors(device, profile, measured=False)
    assert profile.data.quality.rounds >= LEAST_ROUNDS


def test_what_there_was_no_time_for_is_modelled_within_a_few_per_cent_and_marked(bundle):
    device = PaperDevice(bundle)
    profile = measure(device, 1.0)
    modelled = errors(device, profile, measured=False)
    assert 5 < len(profile.data.graphs) < len(list_points(bundle.manifest))
    assert len(modelled) > 10 and float(np.median(modelled)) < 0.05
    assert max(errors(device, profile, measured=True)) < 1e-6


def test_predictions_get_better_with_time(bundle):
    found = []
    for time_limit_s in (0.3, 1.0, 10.0):
        device = PaperDevice(bundle)
        found.append(float(np.mean(errors(device, measure(device, time_limit_s)))))
    assert found[0] > found[1] > found[2]


def test_fixed_part_of_a_call_is_found_from_whole_calls(bundle):
    device = PaperDevice(bundle, engine_ms=(1.5, 0.25))
    profile = measure(device, 30.0)
    assert profile.data.fit.call_ms == pytest.approx(1.5, rel=0.05)
    assert profile.data.fit.task_ms == pytest.approx(0.25, rel=0.05)
    assert profile.data.fit.factor == pytest.approx(1.0, rel=0.01)
    assert profile.data.quality.median_error is not None and profile.data.quality.median_error < 0.01
    assert any(not call.fitted for call in profile.data.calls)


def test_noise_widens_the_headroom_and_little_else(bundle):
    device = PaperDevice(bundle, noise=0.1)
    profile = measure(device, 30.0)
    assert float(np.median(errors(device, profile))) < 0.05
    assert 1.05 < profile.headroom < 1.3
    assert measure(PaperDevice(bundle), 20.0).headroom == pytest.approx(1.0, abs=1e-6)


def test_neighbour_that_comes_and_goes_spoils_nothing(bundle):
    # Half of the time, seconds on end, everything takes two and a half times as long.
    device = PaperDevice(bundle, slow=lambda now_s: 2.5 if now_s % 10 > 5 else 1.0)
    profile = measure(device, 30.0)
    assert profile.data.quality.rounds_kept < profile.data.quality.rounds
    assert float(np.median(errors(device, profile))) < 0.03


def test_drift_hits_everything_alike_so_ratios_stay(bundle):
    device = PaperDevice(bundle, slow=lambda now_s: 1 + now_s / 100)  # hotter and hotter
    profile = measure(device, 30.0)
    ratios = [
        (point.latency_ms / device.true_ms(graph, point.images, point.rows, point.top_k))
        for point in profile.data.graphs
        for graph in bundle.manifest.graphs
        if graph.file == point.graph
    ]
    assert max(ratios) / min(ratios) < 1.05
    assert 1.0 < float(np.median(ratios)) < 1.6
    assert float(np.median([point.p95_ms / point.latency_ms for point in profile.data.graphs])) < 1.03  # no spread


def test_memory_of_graphs_is_measured_or_unknown_but_never_negative(bundle):
    profile = measure(PaperDevice(bundle), 5.0)
    known = [point.activations_mb for point in profile.data.graphs if point.activations_mb is not None]
    assert all(value >= 0 for value in known)


# --- energy -----------------------------------------------------------------------------------------------------


class PaperMeter:
    """3 W idle; 8 W more while the device works."""

    name, window_s = "paper", 0.05

    def __init__(self, device: PaperDevice) -> None:
        self.device, self.closed = device, False

    def energy_j(self) -> float:
        return 3.0 * self.device.now_s + 8.0 * self.device.busy_s

    def close(self) -> None:
        self.closed = True


def test_energy_is_power_above_idle_times_latency(bundle):
    device = PaperDevice(bundle)
    meter = PaperMeter(device)
    profile = measure(device, 20.0, meter=FoundMeter(meter))
    assert meter.closed and profile.data.meter == "paper"
    assert profile.data.idle_w == pytest.approx(3.0)
    graph = bundle.graph("encoder", (32, 48), 1.0)
    cost = profile.encoder(graph, images=1, rows=2, top_k=2)
    assert cost.energy_mj is not None and cost.latency_ms is not None
    assert cost.energy_mj / cost.latency_ms == pytest.approx(8.0)
    call = profile.call((32, 48), ["depth"])
    assert call.energy_mj is not None and call.energy_mj >= 0


def test_without_a_meter_energy_is_unknown(bundle):
    profile = measure(PaperDevice(bundle), 2.0)
    graph = bundle.graph("head", (32, 48), 1.0, "depth")
    assert profile.head(graph, rows=1).energy_mj is None
    assert profile.call((32, 48), ["depth"]).energy_mj is None
    assert profile.data.meter == "" and profile.data.no_meter == "none in this test" and profile.data.idle_w is None


# --- how it goes about it ---------------------------------------------------------------------------------------


def test_time_limit_is_kept(bundle):
    for time_limit_s in (1.0, 10.0):
        device = PaperDevice(bundle)
        measure(device, time_limit_s)
        assert device.now_s <= 1.1 * time_limit_s


def test_slow_device_still_gets_an_encoder_and_a_head(bundle):
    device = PaperDevice(bundle, slow=lambda now_s: 200.0)
    profile = measure(device, 1.0)
    kinds = {point.graph.partition("-")[0] for point in profile.data.graphs}
    assert kinds == {"encoder", "head"} and profile.data.quality.rounds == LEAST_ROUNDS
    assert 60 < float(np.median(errors(device, profile))) < 600  # 200 times slower, guessed from two graphs


def test_progress_counts_up_to_the_limit(bundle):
    device, seen = PaperDevice(bundle), list[Progress]()
    measure(device, 5.0, progress=seen.append)
    assert [phase for phase, _ in itertools.groupby(seen, lambda p: p.phase)] == ["scout", "rounds"]
    elapsed = [progress.elapsed_s for progress in seen]
    assert elapsed == sorted(elapsed) and seen[-1].left_s < 1.0 and seen[0].limit_s == 5.0
    assert any("encoder 1 at 32x48" in progress.what for progress in seen)


def test_own_pictures_are_used_and_bad_ones_refused(bundle, photo):
    device = PaperDevice(bundle)
    measure(device, 1.0, images=[photo(), photo(seed=1)])
    with pytest.raises(ImageError):
        measure(device, 1.0, images=[b"no picture"])


def test_default_pictures_are_pictures():
    pictures = default_pictures()
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.shape == (480, 640, 3) and picture.dtype == np.uint8 and picture.std() > 20


def test_dense_model_is_measured_too(dense_bundle):
    bundle = Bundle.open(dense_bundle)
    points = list_points(bundle.manifest)
    assert {point.top_k for point in points} == {0}
    assert {point.rows for point in points if point.graph.kind == "encoder" and point.images == 1} == {1}


# --- which points -----------------------------------------------------------------------------------------------


def test_corners_come_first_and_every_point_once(bundle):
    points = list_points(bundle.manifest)
    assert len({point.key for point in points}) == len(points)
    encoders = [point for point in points if point.graph.kind == "encoder" and point.images == 1]
    assert (encoders[0].graph.width, encoders[0].rows, encoders[0].top_k) == (1.0, 1, 2)
    other = encoders[1]  # the opposite corner in everything
    assert (other.graph.width, other.rows, other.top_k, other.graph.size_hw) == (0.5, 5, 1, (32, 32))
    assert all(point.images == 1 for point in points[: len(points) // 2])


def test_point_says_what_it_is(bundle):
    graph = bundle.graph("encoder", (32, 48), 0.5)
    assert str(RunPoint(graph, 1, 3, 2)) == "encoder 0.5 at 32x48, 3 rows, top_k 2"


# --- whole calls ------------------------------------------------------------------------------------------------


def test_calls_use_only_the_graphs_that_they_may(bundle):
    device = PaperDevice(bundle)
    files = {"encoder-32x48-w0.5.onnx", "head-depth-32x48-w1.onnx", "head-edge-32x48-w0.5.onnx"}
    with device.engine() as engine:
        specs = draw_calls(engine, files, 12)
        assert draw_calls(engine, {"encoder-32x48-w0.5.onnx", "head-depth-32x32-w1.onnx"}, 12) == []
    assert len(specs) == 12 and sum(not spec.fitted for spec in specs) == 4
    for spec in specs:
        assert spec.plan.encoder_width == 0.5 and set(spec.plan.decoder_widths) <= {"depth", "edge"}
    assert {len(spec.plan.decoder_widths) for spec in specs} == {1, 2}
    assert len({spec.image_hw for spec in specs}) > 1


def test_calls_are_the_same_for_the_same_seed(bundle):
    with PaperDevice(bundle).engine() as engine:
        files = {graph.file for graph in bundle.manifest.graphs}
        assert draw_calls(engine, files, 8, seed=3) == draw_calls(engine, files, 8, seed=3)
        assert draw_calls(engine, files, 8, seed=3) != draw_calls(engine, files, 8, seed=4)


def test_one_spoilt_call_does_not_spoil_the_fit():
    rng = np.random.default_rng(0)
    tasks = rng.integers(1, 6, 24)
    parts = rng.uniform(10, 100, 24)
    measured = 0.8 + 0.1 * tasks + 1.05 * parts
    measured[5] *= 3
    fit = fit_calls(tasks.tolist(), parts.tolist(), measured.tolist())
    assert fit.factor == pytest.approx(1.05, abs=0.01) and fit.call_ms + 3 * fit.task_ms == pytest.approx(1.1, abs=0.4)


def test_without_calls_parts_just_add_up():
    fit = fit_calls([], [], [])
    assert (fit.call_ms, fit.task_ms, fit.factor) == (0.0, 0.0, 1.0)


# --- rounds -----------------------------------------------------------------------------------------------------


def test_rounds_shuffle_and_quick_probes_run_more_often():
    now, order = [0.0], list[str]()

    def work(name: str, milliseconds: float):  # type: ignore[no-untyped-def]
        def run() -> None:
            order.append(name)
            now[0] += milliseconds / 1e3

        return run

    probes = [Probe(name, work(name, ms), ms) for name, ms in (("a", 1.0), ("b", 8.0), ("c", 50.0))]
    rounds = run_rounds(probes, until_s=0.5, clock=lambda: now[0])
    found = evaluate_rounds(probes)
    assert rounds == found.count and found.kept == rounds
    assert [timing.median_ms for timing in found.timings] == pytest.approx([1.0, 8.0, 50.0])
    assert [probe.runs for probe in probes] == [5, 2, 1] and [probe.warms_up for probe in probes] == [True, True, False]
    firsts = {"".join(name for name, _ in itertools.groupby(order[i * 10 : i * 10 + 10])) for i in range(rounds - 1)}
    assert len(firsts) > 1  # the order changes
    assert now[0] < 0.5 + 0.06


def test_slow_round_is_left_out_and_drift_taken_off():
    slow = [1.0, 1.02, 1.04, 3.0, 1.06]
    probes = [Probe(name, lambda: None, ms) for name, ms in (("a", 1.0), ("b", 10.0), ("c", 5.0))]
    for probe in probes:
        probe.blocks_ms = [[probe.expected_ms * factor] * 2 for factor in slow]
    probes[1].blocks_ms[1] = [17.0, 17.0]  # and a burst that hit one probe alone
    found = evaluate_rounds(probes)
    assert found.kept == 4 and found.drift == pytest.approx(1.06, abs=0.03)
    assert found.timings[0].median_ms == pytest.approx(1.03, abs=0.02)
    assert found.timings[1].median_ms == pytest.approx(10.3, abs=0.2)
    assert found.timings[1].p95_ms > found.timings[1].median_ms


def test_probe_that_the_last_round_did_not_reach_keeps_its_others():
    probes = [Probe("a", lambda: None, 1.0), Probe("b", lambda: None, 2.0)]
    probes[0].blocks_ms = [[1.0], [1.0], [1.0]]
    probes[1].blocks_ms = [[2.0], [2.0], []]
    found = evaluate_rounds(probes)
    assert found.timings[1].median_ms == pytest.approx(2.0) and len(found.timings[1].samples_ms) == 2
