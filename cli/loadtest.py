"""`slimpath loadtest`: how a server holds up, in figures that users feel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Debug, Json, need, say, verb
from .errors import InputError
from .loadtest_input import parse_deadline, parse_options, read_bodies, write_samples
from .output import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from ..service.loadtest.run import Closed, Outcome
    from ..service.loadtest.traces import Trace


@verb
def loadtest(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="Of the server; without a path, /v1/infer.", show_default=False),
    ],
    trace: Annotated[
        str,
        typer.Option(
            "--trace",
            metavar="KIND|FILE",
            help="poisson, bursty or steady; or a file that --save-trace wrote.",
        ),
    ] = "poisson",
    rate: Annotated[float, typer.Option("--rate", metavar="PER_S", help="Requests a second, on the average.")] = 10.0,
    duration: Annotated[float, typer.Option("--duration", metavar="S", help="Seconds that requests are sent.")] = 30.0,
    burstiness: Annotated[
        float,
        typer.Option(
            "--burstiness", metavar="CV2", help="Of bursty: squared coefficient of variation of the gaps; 1 is poisson."
        ),
    ] = 4.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the trace.")] = 0,
    closed: Annotated[
        int | None,
        typer.Option(
            "--closed",
            metavar="N",
            help="Closed loop instead: keep N requests in flight. Shows capacity, not what users feel.",
            show_default="open loop",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            metavar="FILE|DIR",
            help="What is sent, in turn; may be repeated.",
            show_default="a made-up photograph, 640 x 480",
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="LIST", help="As of `slimpath run`.", show_default="all")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="BUDGET", help="As of `slimpath run`.", show_default="full")
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            help='Within which an answer is good: "200ms", "0.2s", or "3x", three times the median of the requests '
            "before the test. The server is told what is left of it.",
            show_default="none",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="NAME=VALUE", help='Further fields of the query, such as "format=rle"; repeatable.'
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", envvar="SLIMPATH_API_KEY", metavar="KEY", help="API key of the server."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Certificates to trust, PEM.", show_default="the system's"),
    ] = None,
    warm: Annotated[int, typer.Option("--warm", metavar="N", help="Requests before the test, not counted.")] = 5,
    connections: Annotated[int, typer.Option("--connections", metavar="N", help="Open at most.")] = 128,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="After which an answer is given up.")] = 60.0,
    save_trace: Annotated[
        Path | None, typer.Option("--save-trace", metavar="FILE", help="Write the trace, to send it again.")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="FILE", help="Write what became of each request, as CSV.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw it; .png, .svg or .pdf. Needs slimpath[plot]."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Send requests to a running server, and report what users would feel.

    Requests are sent at the times of a trace, whether answers come or not (open loop), and latency counts from when
    each was due: a server that falls behind is charged for it. Reports throughput, percentiles, goodput (answers within
    the deadline), and the accuracy that the answers kept.

    \b
    Examples:
      slimpath loadtest http://127.0.0.1:8000 --rate 20 --deadline 200ms
      slimpath loadtest http://127.0.0.1:8000 --trace bursty --rate 40 --deadline 3x --plot load.png
      slimpath loadtest http://127.0.0.1:8000 --closed 8 --option format=npy --option response=zip
      slimpath loadtest http://127.0.0.1:8000 --trace bursty --save-trace monday.json
      slimpath loadtest http://127.0.0.1:8000 --trace monday.json --json
    """
    need(("httptools",), "service", "`slimpath loadtest`")
    if plot is not None:
        need(("matplotlib",), "plot", "`slimpath loadtest --plot`")
    from ..service.loadtest.client import read_target
    from ..service.loadtest.sending import Load

    deadline_s, factor = parse_deadline(deadline)
    bodies = read_bodies(image or [])
    shape = _shape(trace, rate, duration, seed, burstiness, closed)
    _check_counts(warm=warm, connections=connections, timeout=timeout)
    if save_trace is not None:
        _save(shape, save_trace)
    load = Load(
        bodies,
        options=parse_options(option or [], tasks=tasks, budget=budget),
        deadline_s=deadline_s,
        headers={"X-API-Key": key} if key else {},
        timeout_s=timeout,
    )
    target = read_target(url, ca_file=None if ca is None else str(ca))
    outcome = _run(target, load, shape, warm=warm, factor=factor, connections=connections)
    if samples is not None:
        write_samples(outcome, samples)
    if plot is not None:
        _plot(outcome, shape, url, plot)
    if json:
        _print_document(outcome, shape, url)
    else:
        _print(outcome, url)


def _shape(
    trace: str, rate: float, duration: float, seed: int, burstiness: float, closed: int | None
) -> Trace | Closed:
    from ..service.loadtest.run import Closed
    from ..service.loadtest.traces import KINDS, load_trace, make_trace

    if closed is not None:
        if closed < 1 or duration <= 0:
            raise InputError(f"{closed} in flight for {duration:g} s is no load", hint="both above 0")
        return Closed(closed, duration)
    if trace not in KINDS and Path(trace).is_file():
        return load_trace(Path(trace))
    return make_trace(trace, rate, duration, seed=seed, burstiness=burstiness)


def _check_counts(*, warm: int, connections: int, timeout: float) -> None:
    if warm < 1 or connections < 1 or not timeout > 0:
        raise InputError("--warm and --connections must be at least 1, --timeout above 0")


def _save(shape: Any, path: Path) -> None:
    from ..service.loadtest.traces import Trace

    if not isinstance(shape, Trace):
        raise InputError("a closed loop has no trace to save", hint="leave out --closed or --save-trace")
    shape.save(path)
    say(f"slimpath: wrote {path}")


def _run(target: Any, load: Any, shape: Any, *, warm: int, factor: float | None, connections: int) -> Outcome:
    import asyncio

    from ..service.loadtest.run import Closed, run_load

    total = None if isinstance(shape, Closed) else len(shape.times_s)
    with progress_bar("requests answered", total) as bar:
        return asyncio.run(
            run_load(
                target, load, shape, warm=warm, deadline_factor=factor, connections=connections,
                progress=lambda done: bar.update(bar.task_ids[0], completed=done),
            )
        )  # fmt: skip


def _shape_json(shape: Trace | Closed) -> dict[str, Any]:
    from ..service.loadtest.run import Closed

    if isinstance(shape, Closed):
        return {"kind": "closed", "concurrency": shape.concurrency, "seconds": shape.seconds}
    names = ("kind", "rate_per_s", "seconds", "seed", "burstiness")
    return {**{name: getattr(shape, name) for name in names}, "requests": len(shape.times_s)}


def _plot(outcome: Outcome, shape: Trace | Closed, url: str, path: Path) -> None:
    from ..service.loadtest.plots import plot_samples

    told = _shape_json(shape)
    what = (
        f"{told['concurrency']} in flight" if told["kind"] == "closed" else f"{told['kind']}, {told['rate_per_s']:g}/s"
    )
    deadline_ms = outcome.report.deadline_ms
    deadline_s = None if deadline_ms is None else deadline_ms / 1e3
    plot_samples(outcome.samples, outcome.report.seconds, deadline_s, path, f"{url}: {what}")
    say(f"slimpath: wrote {path}")


def _print_document(outcome: Outcome, shape: Trace | Closed, url: str) -> None:
    document = {"url": url, "load": _shape_json(shape), "warm_ms": outcome.warm_ms, **outcome.report.to_json()}
    print_json(document)


def _print(outcome: Outcome, url: str) -> None:
    from ..service.loadtest.report import lines_of

    lines = lines_of(outcome.report)
    if outcome.warm_ms is not None:
        lines.insert(0, ("before the test", f"{outcome.warm_ms:.1f} ms, one at a time (median)"))
    print_table(url, ("", ""), lines)
