"""A stream from end to end, with answers that only take time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from slimpath.runtime.errors import BackendError
from slimpath.runtime.planning.plan import Plan
from slimpath.runtime.result import Result
from slimpath.runtime.stream.errors import SourceError
from slimpath.runtime.stream.pilot import Pilot
from slimpath.runtime.stream.pipeline import Stream, short_plan
from slimpath.tests.runtime.stream.conftest import ListOutput, ListSource, TimedAnswers, make_result, numbered

MakePilot = Callable[..., Pilot]


def plain(rgb_HWC: np.ndarray, result: Result, line: str, share: float) -> np.ndarray:
    return rgb_HWC


def run(stream: Stream, timeout_s: float = 20) -> None:
    stream.start()
    assert stream.wait(timeout_s), "the stream did not end"
    stream.finish()


def test_file_in_time_shows_every_frame_in_order_and_at_its_rate(make_pilot: MakePilot) -> None:
    output, source = ListOutput(), ListSource([numbered(n) for n in range(45)], fps=30)
    stream = Stream(source, TimedAnswers(8), make_pilot(1000 / 30, 8), plain, [output], fps=30)
    run(stream)
    shown = [int(picture[0, 0, 0]) for picture in output.pictures]
    assert shown == output.ticks == sorted(shown)
    assert len(shown) >= 40  # a few may be lost on a busy machine
    assert stream.meter.mean_fps() == pytest.approx(30, rel=0.15)
    assert source.closed and output.closed == 1


def test_file_is_thinned_to_the_asked_rate(make_pilot: MakePilot) -> None:
    output, source = ListOutput(), ListSource([numbered(n) for n in range(60)], fps=60)
    run(Stream(source, TimedAnswers(5), make_pilot(50, 5), plain, [output], fps=20))
    assert {int(picture[0, 0, 0]) for picture in output.pictures} <= set(range(0, 60, 3))


def test_late_answers_drop_frames_and_count_them(make_pilot: MakePilot) -> None:
    """Nothing is fast enough: what cannot be answered is dropped, and the newest is shown, not the oldest."""
    output, source = ListOutput(), ListSource([numbered(n) for n in range(60)], fps=60)
    stream = Stream(source, TimedAnswers(400), make_pilot(1000 / 60, 400), plain, [output], fps=60)
    run(stream)
    stats = stream.stats()
    assert stats.pictures + stats.dropped == 60
    assert 5 <= stats.pictures <= 15  # one takes 100 ms
    assert output.ticks[-1] >= 48
    assert stats.delay_ms is not None and stats.delay_ms < 400  # a queue of 60 frames would take six seconds


def test_knob_holds_the_rate_where_the_full_model_could_not(make_pilot: MakePilot) -> None:
    answers = TimedAnswers(80)
    stream = Stream(
        ListSource([numbered(n) for n in range(40)], fps=20), answers, make_pilot(50, 80), plain, [], fps=20
    )
    run(stream)
    assert stream.meter.mean_fps() == pytest.approx(20, rel=0.1)
    assert max(answers.widths) == 0.5
    assert stream.stats().dropped <= 4


def test_without_pace_every_due_frame_is_answered_and_none_waited_for(make_pilot: MakePilot) -> None:
    output, source = ListOutput(), ListSource([numbered(n) for n in range(60)], fps=10)

    def slow(rgb_HWC: np.ndarray, result: Result, line: str, share: float) -> np.ndarray:
        time.sleep(0.012)
        return rgb_HWC

    started = time.monotonic()
    stream = Stream(source, TimedAnswers(4), make_pilot(100, 4), slow, [output], fps=10, pace=False)
    run(stream)
    assert [int(picture[0, 0, 0]) for picture in output.pictures] == list(range(60))
    assert stream.stats().dropped == 0
    assert time.monotonic() - started < 5  # six seconds long


def test_stages_overlap(make_pilot: MakePilot) -> None:
    """Reading, answering and drawing take 30 ms each: one after the other that would be 11 pictures a second."""

    class SlowSource(ListSource):
        def grab(self) -> bool:
            time.sleep(0.03)
            return super().grab()

    def slow(rgb_HWC: np.ndarray, result: Result, line: str, share: float) -> np.ndarray:
        time.sleep(0.03)
        return rgb_HWC

    source = SlowSource([numbered(n) for n in range(40)], fps=100)
    stream = Stream(source, TimedAnswers(30), make_pilot(10, 30), slow, [ListOutput()], fps=100, pace=False)
    started = time.monotonic()
    run(stream)
    assert time.monotonic() - started < 40 * 0.09 * 0.75


def test_live_source_keeps_the_newest(make_pilot: MakePilot) -> None:
    output, source = ListOutput(), ListSource([numbered(n) for n in range(60)], fps=60, live=True)
    stream = Stream(source, TimedAnswers(10), make_pilot(1000 / 20, 10), plain, [output], fps=20)
    run(stream)
    shown = [int(picture[0, 0, 0]) for picture in output.pictures]
    assert shown == sorted(set(shown))
    assert len(shown) == pytest.approx(20, abs=4)


def test_live_source_is_read_on_while_answers_are_slow(make_pilot: MakePilot) -> None:
    """Or its driver would queue the frames, and all that follow would be old."""
    source = ListSource([numbered(n) for n in range(60)], fps=60, live=True)
    stream = Stream(source, TimedAnswers(800), make_pilot(1000 / 60, 800), plain, [], fps=60)
    stream.start()
    time.sleep(0.7)
    assert source.grabbed > 25  # 42 have come; 4 were answered
    stream.finish()


def test_dying_source_ends_the_stream_and_everything_is_closed(make_pilot: MakePilot) -> None:
    output, source = ListOutput(), ListSource([numbered(n) for n in range(10)], live=True, dies=True)
    stream = Stream(source, TimedAnswers(4), make_pilot(1000 / 30, 4), plain, [output], fps=30)
    stream.start()
    assert stream.wait(10)
    with pytest.raises(SourceError, match="gone"):
        stream.finish()
    assert source.closed and output.closed == 1
    assert stream.stats().pictures >= 5


def test_failing_answer_or_output_ends_the_stream_with_its_error(make_pilot: MakePilot) -> None:
    def broken(rgb_HWC: np.ndarray, plan: Plan) -> Result:
        raise BackendError("the library failed")

    for pace in (True, False):
        frames = [numbered(n) for n in range(100)]
        stream = Stream(ListSource(frames), broken, make_pilot(33, 4), plain, [], fps=30, pace=pace)
        stream.start()
        assert stream.wait(10)
        with pytest.raises(BackendError, match="the library failed"):
            stream.finish()
        failing, other = ListOutput(fails_at=3), ListOutput()
        outputs = [failing, other]
        stream = Stream(ListSource(frames), TimedAnswers(2), make_pilot(33, 2), plain, outputs, fps=30, pace=pace)
        stream.start()
        assert stream.wait(10)
        with pytest.raises(OSError, match="disk is full"):
            stream.finish()
        assert (failing.closed, other.closed) == (1, 1)


def test_output_that_cannot_be_finished_does_not_keep_the_others_open(make_pilot: MakePilot) -> None:
    class Unfinished(ListOutput):
        def close(self) -> None:
            raise OSError("no space left")

    other = ListOutput()
    source = ListSource([numbered(1)])
    stream = Stream(source, TimedAnswers(1), make_pilot(33, 1), plain, [Unfinished(), other], fps=30)
    stream.start()
    assert stream.wait(10)
    with pytest.raises(OSError, match="no space left"):
        stream.finish()
    assert other.closed == 1


@pytest.mark.parametrize("pace", [True, False])
def test_stop_ends_soon_and_finishes_what_is_under_way(make_pilot: MakePilot, pace: bool) -> None:
    output = ListOutput()
    source = ListSource([numbered(n) for n in range(3000)], fps=30)
    stream = Stream(source, TimedAnswers(8), make_pilot(33, 8), plain, [output], fps=30, pace=pace)
    stream.start()
    time.sleep(0.4)
    started = time.monotonic()
    stream.stop()
    assert stream.wait(0)
    stats = stream.finish()
    assert time.monotonic() - started < 2
    assert stats.pictures == len(output.pictures) > 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("slimpath-")]


def test_reader_that_hangs_in_a_driver_does_not_keep_the_stream(make_pilot: MakePilot) -> None:
    release = threading.Event()

    class Hanging(ListSource):
        def grab(self) -> bool:
            if self._next == 4:
                release.wait(30)
                return False
            return super().grab()

    output, source = ListOutput(), Hanging([numbered(n) for n in range(10)], live=True)
    stream = Stream(source, TimedAnswers(2), make_pilot(33, 2), plain, [output], fps=30)
    stream.start()
    time.sleep(0.4)
    started = time.monotonic()
    stream.finish()
    assert time.monotonic() - started < 3
    assert output.closed == 1 and not source.closed  # still in use by the driver
    release.set()


def test_damaged_frame_is_passed_over(make_pilot: MakePilot) -> None:
    output = ListOutput()
    source = ListSource([numbered(0), None, numbered(2)], fps=20)
    stream = Stream(source, TimedAnswers(1), make_pilot(50, 1), plain, [output], fps=20)
    run(stream)
    assert output.ticks == [0, 2]
    assert stream.stats().dropped == 1


def test_line_of_figures_tells_rate_plan_and_latency(make_pilot: MakePilot) -> None:
    lines: list[str] = []

    def keep(rgb_HWC: np.ndarray, result: Result, line: str, share: float) -> np.ndarray:
        lines.append(line)
        assert share == 1.0
        return rgb_HWC

    stream = Stream(
        ListSource([numbered(n) for n in range(40)], fps=30),
        TimedAnswers(6),
        make_pilot(33, 6),
        keep,
        [ListOutput()],
        fps=30,
    )
    run(stream)
    assert "of 30 fps" in lines[-1] and "encoder 1 top-2" in lines[-1] and " ms" in lines[-1]
    assert len(set(lines)) <= 4  # twice a second: drawing text is slow


def test_short_plan_names_widths_and_experts(make_plan: Callable[..., Plan]) -> None:
    assert short_plan(make_plan(0.5)) == "encoder 0.5 top-2, decoder 0.5"
    mixed = make_plan(1.0, top_k=0, decoder_widths={"depth": 0.25, "edge": 1.0})
    assert short_plan(mixed) == "encoder 1, decoders 0.25 to 1"
    assert make_result(mixed, numbered(1)).plan is mixed
