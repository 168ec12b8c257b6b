"""A stream in three threads: reading, answering, drawing and writing, each on the newest that the one before it has.

While one frame is answered the next is read and the last is drawn. A frame that comes while the one before it still
waits takes its place: late frames are dropped, never queued.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from .handover import Handover
from .meter import Meter, StreamStats
from .outputs import Output
from .pace import FilePace, LivePace, effective_fps
from .pilot import Choice, Pilot
from .sources import Source

if TYPE_CHECKING:
    from ..planning.plan import Plan
    from ..result import Result

END_S = 10.0  # that the threads have to end in; one that hangs in a driver is left behind


@dataclass(frozen=True)
class _Frame:
    tick: int
    at_s: float
    rgb_HWC: np.ndarray


@dataclass(frozen=True)
class _Answer:
    frame: _Frame
    result: Result
    choice: Choice
    took_ms: float


Answering = Callable[[np.ndarray, "Plan"], "Result"]
Drawing = Callable[[np.ndarray, "Result", str, float], np.ndarray]


class Stream:
    """One run of a stream: `start`, then `wait` until it has ended, then `finish`.

    Args:
        answer: runs one frame (uint8 RGB) with a plan: the engine.
        pilot: chooses the plans.
        draw: makes the picture of a frame, a result, a line of figures, and the knob's share.
        outputs: closed here, whatever happens. Without any nothing is drawn.
        fps: asked; a source that has fewer frames gives its own.
        pace: a file is played in real time and late frames are dropped. Otherwise every frame that is due is
            answered, as fast as that goes.
        stop: set to end the stream; also by `stop`.
    """

    def __init__(
        self,
        source: Source,
        answer: Answering,
        pilot: Pilot,
        draw: Drawing,
        outputs: Sequence[Output],
        *,
        fps: float,
        pace: bool = True,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.fps = effective_fps(fps, source.info.fps)
        self.meter = Meter(self.fps, clock)
        self._source, self._answer, self._pilot, self._draw, self._outputs = source, answer, pilot, draw, outputs
        self._live, self._paced, self._clock = source.info.live, pace or source.info.live, clock
        self._stop = stop or threading.Event()
        self._frames: Handover[_Frame] = Handover(lossless=not self._paced)
        self._answers: Handover[_Answer] = Handover(lossless=not self._paced)
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._choice: Choice | None = None
        self._line = ("", -1.0)
        stages = (("read", self._read), ("infer", self._infer), ("draw", self._write))
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage,), name=f"slimpath-{name}", daemon=True)
            for name, stage in stages
        ]

    def start(self) -> None:
        """Set the three threads going."""
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; True when it has come: the source has ended, something failed, or an end was asked for."""
        return self._ended.wait(timeout_s) or self._stop.is_set()

    def stop(self) -> None:
        """End soon: nothing new is read, what is under way is finished."""
        self._stop.set()
        self._frames.close()

    def finish(self) -> StreamStats:
        """End, close the source and the outputs, and say what was done. A video is whole after this.

        Raises:
            StreamError, SlimpathError: what ended the stream, if it was not its end; everything is closed first.
        """
        self.stop()
        for thread in reversed(self._threads):  # drawing ends last, and what was read is then through
            thread.join(END_S if thread is not self._threads[0] else 1.0)
        if not self._threads[0].is_alive():  # a reader that hangs in a driver still uses it
            self._source.close()
        for output in self._outputs:
            try:
                output.close()
            except Exception as error:  # the others must be closed too; the first error is reported
                self._error = self._error or error
        if self._error is not None:
            raise self._error
        return self.meter.stats()

    def stats(self) -> StreamStats:
        """Where the stream stands."""
        return self.meter.stats()

    @property
    def choice(self) -> Choice | None:
        """The plan of the last answer, and what it was expected to take; None before the first."""
        return self._choice

    def _guarded(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except Exception as error:  # ends the stream, and is raised again by finish()
            self._error = self._error or error
            self._stop.set()
            self._frames.close()
            self._answers.close()
            self._ended.set()

    def _read(self) -> None:
        try:
            (self._read_live if self._live else self._read_file)()
        finally:
            self._frames.close()

    def _read_live(self) -> None:
        pace = LivePace(self.fps)
        while not self._stop.is_set() and self._source.grab():
            now = self._clock()
            tick = pace.tick_of(now)
            if tick is not None:
                self._hand_on(tick, now, now)
            self.meter.reconnected(self._source.reconnects)

    def _read_file(self) -> None:
        pace = FilePace(self.fps, self._source.info.fps or self.fps, self._clock() if self._paced else None)
        tick, position = 0, -1
        while not self._stop.is_set():
            started = self._clock()
            while position < pace.frame_of(tick):
                if not self._source.grab():
                    return
                position += 1
            read_s = self._clock() - started
            self._stop.wait(max(pace.due_s(tick) - self._clock(), 0.0))
            due_s = max(pace.due_s(tick), started) if self._paced else started
            self._hand_on(tick, due_s, self._clock() - read_s)
            following = pace.next_tick(tick, self._clock())
            self.meter.count("dropped", following - tick - 1)
            tick = following

    def _hand_on(self, tick: int, at_s: float, started_s: float) -> None:
        """Pass the grabbed frame on; what was read since `started_s` is this stage's work."""
        rgb_HWC = self._source.frame()
        self.meter.worked("read", self._clock() - started_s)
        if rgb_HWC is None or self._frames.put(_Frame(tick, at_s, rgb_HWC)):
            self.meter.count("dropped")

    def _infer(self) -> None:
        try:
            while (frame := self._frames.take()) is not None:
                choice = self._pilot.choose()
                started = self._clock()
                result = self._answer(frame.rgb_HWC, choice.plan)
                took_s = self._clock() - started
                self.meter.worked("infer", took_s)
                self._choice = choice
                self._pilot.observe(choice, took_s * 1e3)
                if self._paced:
                    self._pilot.make_room(max(self.meter.busy("read"), self.meter.busy("draw")))
                if self._answers.put(_Answer(frame, result, choice, took_s * 1e3)):
                    self.meter.count("dropped")
        finally:
            self._answers.close()

    def _write(self) -> None:
        try:
            while (answer := self._answers.take()) is not None:
                started = self._clock()
                if self._outputs:
                    self._show(answer)
                now = self._clock()
                self.meter.worked("draw", now - started)
                self.meter.picture((now - answer.frame.at_s) * 1e3)
        finally:
            self._ended.set()

    def _show(self, answer: _Answer) -> None:
        share = answer.choice.plan.share
        picture = self._draw(answer.frame.rgb_HWC, answer.result, self._figures(answer), share)
        for output in self._outputs:
            output.show(picture, answer.frame.tick)

    def _figures(self, answer: _Answer) -> str:
        """The line under the pictures: made twice a second, as nobody reads faster, and text is slow to draw."""
        line, made_s = self._line
        now = self._clock()
        if now - made_s >= 0.5:
            stats = self.meter.stats()
            line = f"{stats.fps:.1f} of {self.fps:g} fps   {short_plan(answer.choice.plan)}   {answer.took_ms:.0f} ms"
            self._line = (line + (f"   {stats.dropped} dropped" if stats.dropped else ""), now)
        return self._line[0]


def short_plan(plan: Plan) -> str:
    """A plan in a few words: "encoder 0.75 top-2, decoders 1"."""
    widths = sorted(set(plan.decoder_widths.values()))
    decoders = f"{widths[0]:g}" if len(widths) == 1 else f"{widths[0]:g} to {widths[-1]:g}"
    experts = f" top-{plan.top_k}" if plan.top_k else ""
    return f"encoder {plan.encoder_width:g}{experts}, decoder{'s' if len(plan.decoder_widths) > 1 else ''} {decoders}"
