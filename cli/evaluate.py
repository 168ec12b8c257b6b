"""`slimpath eval`: how good each configuration of a bundle is, on scenes it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import BackendName, Debug, Json, need, verb
from .output import print_json, print_table

if TYPE_CHECKING:
    from ..training.eval_report import EvalReport


@verb
def evaluate(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle to measure.", show_default="the bundled model")
    ] = None,
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Held-out SynthRooms scenes to measure on.")] = 500,
    first_seed: Annotated[
        int, typer.Option("--first-seed", min=0, help="Of the scenes; trainings stay below the default.")
    ] = 10_000_000,
    grid: Annotated[
        bool,
        typer.Option("--grid/--no-grid", help="Every encoder width, top_k and decoder width, not only every width."),
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="Also write a new bundle with these accuracies in its manifest."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw accuracy against cost (.png, .svg, .pdf).")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--docs", metavar="DIR", help="Write evaluation.md and evaluation.png there.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Keep the rendered scenes there, and take them from there."),
    ] = None,
    samples_per_pixel: Annotated[
        int, typer.Option("--samples-per-pixel", min=1, help="Of the rendered pictures: 1, 4 or 9.")
    ] = 4,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Cores to use.", show_default="all usable")
    ] = None,
    backend: BackendName = "onnxruntime",
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="NAME",
            help="Of the large products: fp32; int8, of graphs that the bundle has; all of these, compared with fp32; "
            "bf16 (openvino, torch), or auto: bf16 where it is native.",
        ),
    ] = "fp32",
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="One of the bundle's input sizes.", show_default="its first"),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a bundle's accuracy at every width, on rendered rooms that nothing was trained on.

    Compares it with answers that ignore the image, and wider with narrower; all with 95 % intervals.

    \b
    Examples:
      slimpath eval
      slimpath eval BUNDLE --scenes 150 --grid --write BUNDLE-measured
      slimpath eval --docs docs --cache rooms
      slimpath eval BUNDLE --precision all --write BUNDLE-measured
      slimpath eval --backend openvino --precision bf16
    """
    need(("torch", "matplotlib", "tqdm"), "train", "`slimpath eval`")
    from ..runtime import bundled_path
    from ..training.eval_docs import write_docs_table
    from ..training.evaluate import evaluate_bundle

    report = evaluate_bundle(
        bundle,
        scenes=scenes,
        first_seed=first_seed,
        grid=grid,
        write=write,
        samples_per_pixel=samples_per_pixel,
        progress=not json,
        cache=cache,
        workers=workers,
        backend=backend,
        precision=precision,
        size=size,
    )
    made = [] if write is None else [write]
    if plot is not None:
        made.append(report.plot(plot))
    if docs is not None:
        bundled = bundle is None or bundle.resolve() == bundled_path().resolve()
        named = "" if bundle is None or bundled else bundle.resolve().name
        made.append(write_docs_table(report, docs / "evaluation.md", bundle_argument=named))
    if json:
        print_json({**report.to_json(), "made": made})
        return
    _print_report(report)
    for path in made:
        print(path)


def _print_report(report: EvalReport) -> None:
    columns, lines = report.table()
    by = "" if report.backend == "onnxruntime" else f", {report.backend}"
    title = f"{report.bundle}{by}: {report.scenes} scenes, {report.size_hw[0]}x{report.size_hw[1]}, 95 % intervals"
    print_table(title, columns, lines, numeric=(2, 3, 4, 6, 7))
    columns, lines = report.precision_table()
    if lines:
        print_table("Other precisions against fp32, same scenes", columns, lines, numeric=(2, 4, 5, 6, 7))
    for claim, holds in report.claims().items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
    for line in report.exceptions():
        print(f"     {line}")
    if report.skipped_tasks:
        print(f"not measured, as SynthRooms does not label them: {', '.join(report.skipped_tasks)}")
    print(f"{len(report.rows)} configurations measured in {report.seconds:.0f} s")
