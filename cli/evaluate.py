"""`slimpath eval`: how good every width of a bundle is, on scenes that nothing was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Debug, Json, need, verb
from .errors import CliError
from .files import write_together
from .output import print_json, print_table

if TYPE_CHECKING:
    from ..training.eval_report import EvalReport

# Columns of the report's table that hold numbers or intervals of them.
NUMERIC = (2, 3, 4, 5, 6, 7, 8, 9)


@verb
def evaluate(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle.", show_default="the bundled model")
    ] = None,
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Held-out SynthRooms scenes to measure on.")] = 500,
    grid: Annotated[
        bool,
        typer.Option("--grid/--no-grid", help="Every encoder width, top_k and decoder width, not every width alone."),
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="DIR", help="Write the bundle again, there, with these accuracies.", show_default="no"
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the table as Markdown.", show_default="no")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw accuracy against cost, as PNG.", show_default="no"),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Keep rendered scenes there, and use those there.", show_default="none"
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure every task of a bundle at every width on rendered rooms, beside answers that ignore the image.

    Values come with 95 % intervals over scenes. `--grid --write` gives the planner what it needs to choose by accuracy.

    \b
    Examples:
      slimpath eval
      slimpath eval my_bundle --scenes 100 --report eval.md --plot eval.png
      slimpath eval my_bundle --grid --write my_measured_bundle
    """
    need(("torch",), "train", "`slimpath eval`")
    if plot is not None:
        need(("matplotlib",), "train", "`--plot`")
    for path in (report, plot):
        if path is not None and path.is_dir():
            raise CliError(f"{path} is a folder", hint="name a file")
    from ..training.evaluate import evaluate_bundle

    measured = evaluate_bundle(bundle, scenes=scenes, grid=grid, write=write, cache=cache, progress=not json)
    if report is not None:
        write_together({report: measured.to_markdown().encode()})
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        measured.plot(plot)
    if json:
        print_json(measured.to_json())
    else:
        _print_report(measured, [path for path in (write, report, plot) if path is not None])


def _print_report(measured: EvalReport, written: list[Path]) -> None:
    columns, lines = measured.table()
    print_table(f"{measured.bundle} on {measured.scenes} scenes", columns, lines, numeric=NUMERIC)
    for claim, holds in measured.claims().items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
    for line in measured.exceptions():
        print(f"     {line}")
    if measured.skipped_tasks:
        print(f"not measured, SynthRooms does not label them: {', '.join(measured.skipped_tasks)}")
    made = "".join(f"; wrote {path}" for path in written)
    print(f"{measured.scenes} scenes in {measured.seconds:.0f} s{made}")
