"""`slimpath stream`: tasks of a camera, a film or a network stream, at a steady rate."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import BackendName, BundlePath, Debug, Json, Precision, Tasks, load_engine, say, verb
from .errors import InputError
from .live_line import LiveLine, clock_time, to_json_line
from .output import progress_bar
from .stream_outputs import StreamOutputs

if TYPE_CHECKING:
    from ..runtime import Engine
    from ..runtime.health.watch import Watch
    from ..runtime.stream.pilot import Pilot
    from ..runtime.stream.pipeline import Stream
    from ..runtime.stream.sources import Source

POLL_S = 0.05
WINDOW_POLL_S = 0.01


@verb
def stream(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A camera (0, /dev/video0), a video file, an address (rtsp://...), a folder of pictures, or a "
            'GStreamer pipeline ("... ! appsink").',
        ),
    ],
    bundle: BundlePath = None,
    tasks: Tasks = None,
    fps: Annotated[
        float, typer.Option("--fps", min=0.1, max=240, help="The rate to hold; never more than the source gives.")
    ] = 15.0,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="BUDGET",
            help='Never spend more than this, or pin: "0.5", "width=0.5".',
            show_default="whatever the rate leaves",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a video.", show_default="none")
    ] = None,
    codec: Annotated[
        str, typer.Option("--codec", metavar="FOURCC", help='Of that video; "avc1" where OpenCV has H.264.')
    ] = "mp4v",
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve", metavar="HOST:PORT", help="Serve the pictures to browsers (MJPEG).", show_default="none"
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show a window; q closes it.")] = False,
    pace: Annotated[
        bool,
        typer.Option(
            "--pace/--no-pace", help="Play a file in real time and drop late frames, or answer every frame in its time."
        ),
    ] = True,
    duration: Annotated[
        float | None,
        typer.Option("--duration", min=0.1, help="End after so many seconds.", show_default="the source's end"),
    ] = None,
    reconnect: Annotated[
        float, typer.Option("--reconnect", min=0, help="Seconds that a network source may be away.")
    ] = 60.0,
    cell: Annotated[
        int | None,
        typer.Option(
            "--cell",
            min=64,
            max=1920,
            help="Longer side of each picture, pixels.",
            show_default="all fit in 1280 pixels",
        ),
    ] = None,
    watts: Annotated[
        float | None,
        typer.Option(
            "--watts",
            min=0.1,
            help="Draw no more than this, by the board's power sensors: the configuration shrinks.",
            show_default="no limit",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of each graph.", show_default="the CPUs of this process")
    ] = None,
    backend: BackendName = "onnxruntime",
    precision: Precision = "fp32",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run tasks on a camera, film or network stream, at a frame rate that is held by the knob.

    Reading, inference and drawing overlap. Each frame gets the most accurate configuration that fits its time; when
    the device slows down or says that it is hot, the configuration shrinks. Frames that come too late are dropped,
    not queued. A line on stdout tells rate, configuration, latency and drops, and where the device has sensors
    temperature and watts; with --json one document a second. Ctrl-C ends it; the video is whole then.

    \b
    Examples:
      slimpath stream 0 --tasks depth,semseg --fps 15 --serve 127.0.0.1:8090
      slimpath stream film.mp4 --fps 10 --out tasks.mp4
      slimpath stream rtsp://camera/stream --tasks depth --out depth.mp4 --duration 60
      slimpath stream /dev/video0 --tasks depth,semseg --fps 15 --watts 10
    """  # fmt: skip
    from ..runtime.stream.sources import open_source

    _refuse_overwriting(source, out)
    halt = threading.Event()
    with StreamOutputs(out, codec, serve, show, fps) as outputs:
        opened = open_source(source, fps=fps, patience_s=reconnect, stop=halt)
        with ExitStack() as until_it_runs:
            until_it_runs.callback(opened.close)
            with load_engine(bundle, threads=threads, backend=backend, precision=precision) as engine:
                running, pilot = _make(engine, opened, outputs, tasks, budget, fps, pace, cell, halt, quiet=json)
                health = _watch(engine, pilot, watts)
                until_it_runs.pop_all()  # from here on the stream closes it, as a reader may hang in it
                _run(running, pilot, outputs, health, duration, json, halt)


def _make(
    engine: Engine, source: Source, outputs: StreamOutputs, tasks: str | None, budget: str | None, fps: float,
    pace: bool, cell: int | None, halt: threading.Event, *, quiet: bool,
) -> tuple[Stream, Pilot]:  # fmt: skip
    """Load and time the plans, then put the stream together."""
    from ..runtime.stream.drawing import Drawer
    from ..runtime.stream.ladder import ladder, make_pilot
    from ..runtime.stream.pace import effective_fps
    from ..runtime.stream.pipeline import Stream

    held = effective_fps(fps, source.info.fps)
    plans = ladder(engine, tasks, budget, fixed=not pace and not source.info.live)
    if not plans[-1].budget_met:
        say(f"slimpath: nothing is small enough for the budget {plans[-1].budget}; the smallest runs")
    with progress_bar("loading", len(plans), shown=not quiet) as progress:
        pilot = make_pilot(engine, plans, 1e3 / held, on_progress=lambda: progress.advance(progress.task_ids[0]))
    if pace and pilot.too_slow:
        say(
            f"slimpath: even the smallest configuration takes {pilot.choices[0].predicted_ms:.0f} ms of the "
            f"{pilot.budget_ms:.0f} that a frame has; ask for fewer tasks or a lower --fps"
        )
    if held < fps and not quiet:
        say(f"slimpath: {source.info.name} gives {held:g} frames a second; that is what is held")
    made = Stream(
        source,
        lambda rgb, plan: engine(rgb, budget=plan),
        pilot,
        Drawer(cell).draw,
        outputs.start(held),
        fps=fps,
        pace=pace,
        stop=halt,
    )
    outputs.watch(made)
    return made, pilot


def _watch(engine: Engine, pilot: Pilot, watts: float | None) -> Watch | None:
    """What tells the pilot of heat, brakes and watts, where the device shows any."""
    from ..runtime.health.watch import watch

    return watch(pilot.controller, gpu=bool(getattr(engine.backend, "uses_gpu", False)), power=True, limit_w=watts)


def _run(
    running: Stream, pilot: Pilot, outputs: StreamOutputs, health: Watch | None, duration: float | None, json: bool,
    halt: threading.Event,
) -> None:  # fmt: skip
    """Until the source, the clock or the reader ends it; then the last line."""
    line = LiveLine(running, pilot, json=json, health=lambda: None if health is None else health.latest)
    window = outputs.window
    end_s = math.inf if duration is None else monotonic() + duration
    with _ended_by_signals(halt):
        running.start()
        try:
            while not running.wait(WINDOW_POLL_S if window else POLL_S) and monotonic() < end_s:
                line.update()
                if window is not None and window.refresh():
                    break
        finally:
            line.close()
            try:
                running.finish()
            finally:
                if health is not None:
                    health.close()
                _print_end(running, line.report(), outputs, json)


def _print_end(running: Stream, report: dict[str, Any], outputs: StreamOutputs, json: bool) -> None:
    mean_fps = running.meter.mean_fps()
    video = outputs.video
    if json:
        written = None if video is None or not video.frames else str(video.path)
        print(to_json_line({**report, "end": True, "mean_fps": round(mean_fps, 3), "out": written}), flush=True)
        return
    stats = running.stats()
    print(
        f"{stats.pictures} pictures in {clock_time(stats.seconds)}, {mean_fps:.2f} of {stats.asked_fps:g} fps, "
        f"{stats.dropped} dropped" + (f"; video in {video.path}" if video is not None and video.frames else "")
    )


def _refuse_overwriting(source: str, out: Path | None) -> None:
    path = Path(source.removeprefix("file://"))
    if out is not None and out.exists() and path.exists() and out.samefile(path):
        raise InputError(f"{out}: this is the source itself", hint="write to another file")


@contextmanager
def _ended_by_signals(halt: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the stream in good order; a third one in whatever order."""
    if threading.current_thread() is not threading.main_thread():  # signals belong to that one
        yield
        return
    times = 0

    def end(number: int, frame: object) -> None:
        nonlocal times
        times += 1
        halt.set()
        if times >= 3:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
