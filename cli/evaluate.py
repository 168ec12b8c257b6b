"""`slimpath eval`: how good each configuration of a bundle is, on pictures it was not trained on."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .common import BackendName, Debug, Json, need, parse_numbers, say, verb
from .errors import InputError
from .evaluate_extras import Extras
from .evaluate_text import given_options, print_report, read_dataset
from .output import print_json

CLAIM_MISSED = 1  # as of `diff` and `grep`: the question was answered, by no


class World(str, Enum):
    rooms = "rooms"
    wide = "wide"


class JudgedAt(str, Enum):
    picture = "picture"
    network = "network"


@verb
def evaluate(
    context: typer.Context,
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BUNDLE]",
            help="The bundle to measure, or a .safetensors file that `slimpath train` wrote.",
            show_default="the bundled model",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="LAYOUT=DIR",
            help="Judge on files: pascal_mt, nyud_mt, nyud_v2, mtan or folder (docs/training.md has the layouts). What "
            "is missing or damaged is named before anything is measured.",
            show_default="SynthRooms",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Of the data set: what is judged.")] = "val",
    fit_split: Annotated[
        str, typer.Option("--fit-split", help="Of the data set: what answers that ignore the picture are fitted on.")
    ] = "train",
    judged_at: Annotated[
        JudgedAt,
        typer.Option(
            "--judge-at",
            help="Of a data set: at each picture's own size, as Vandenhende and M3ViT do, or at the network's, as "
            "MTLoRA and InvPT do.",
        ),
    ] = JudgedAt.picture,
    scenes: Annotated[
        int | None,
        typer.Option(
            "--scenes",
            min=1,
            help="Held-out SynthRooms scenes to measure on; of a data set that many pictures, spread over it.",
            show_default="500, or all of a data set",
        ),
    ] = None,
    first_seed: Annotated[
        int, typer.Option("--first-seed", min=0, help="Of the scenes; trainings stay below the default.")
    ] = 10_000_000,
    world: Annotated[
        World, typer.Option("--world", help="Of the scenes: rooms alone, or what photographs show too.")
    ] = World.rooms,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="LIST", help="Tasks to measure.", show_default="all that have labels"),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option("--grid/--no-grid", help="Every encoder width, top_k and decoder width, not only every width."),
    ] = False,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="CONFIG",
            help='Measure this configuration only, such as "width=0.5,top_k=2"; may be repeated.',
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference",
            metavar="FILE",
            help="What `slimpath eval --json` printed of single-task models, one file for all tasks or one per task: "
            "also say delta_m. Repeat it for several seeds.",
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            metavar="LIST",
            help='Also say how much preferences control at these shares of the full FLOPs, such as "0.4,0.7,1": the '
            "hypervolume of what the planner reaches. Measures the grid.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="DIR",
            help="Draw accuracy against FLOPs and against measured latency, and the best and worst samples of each "
            "task.",
        ),
    ] = None,
    require: Annotated[
        bool, typer.Option("--require", help="Exit with 1 unless both claims hold for every task and width.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="Also write a new bundle with these accuracies in its manifest."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw accuracy against cost (.png, .svg, .pdf).")
    ] = None,
    docs: Annotated[
        Path | None,
        typer.Option(
            "--docs",
            metavar="DIR",
            help="Write evaluation.md and evaluation.png there, of another world evaluation-WORLD.md.",
        ),
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
        typer.Option(
            "--size",
            metavar="HxW",
            help="One of the bundle's input sizes; any for a checkpoint.",
            show_default="the first, or that of the training",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a model's accuracy at every width, on rendered rooms or on a data set of yours.

    Compares it with answers that ignore the image, and wider with narrower; all with 95 % intervals.

    \b
    Examples:
      slimpath eval
      slimpath eval BUNDLE --scenes 150 --grid --write BUNDLE-measured
      slimpath eval BUNDLE --dataset nyud_mt=data/NYUD_MT --pictures out --require
      slimpath eval runs/mine/model.safetensors --dataset folder=mine --tasks depth --at width=0.5,top_k=2
      slimpath eval --dataset folder=mine --json > multi.json
      slimpath eval BUNDLE --reference depth-0.json --reference depth-1.json
      slimpath eval --control 0.4,0.7,1 --cache rooms
      slimpath eval BUNDLE --precision all --write BUNDLE-measured
      slimpath eval --backend openvino --precision bf16
    """
    exporting = ("onnx", "onnx_ir", "onnxscript", "safetensors") if bundle is not None and bundle.is_file() else ()
    need(("torch", "matplotlib", "tqdm", *exporting), "train", "`slimpath eval`")
    budgets = [] if control is None else parse_numbers(control, "--control", 0, 1)
    files = None if dataset is None else read_dataset(dataset, split, fit_split, scenes, judged_at is JudgedAt.network)
    if budgets and at:
        raise InputError("--control looks at every configuration, --at at some", hint="leave one of them out")
    from ..training import evaluate as evaluation

    extras = Extras(reference=reference or (), budgets=budgets, pictures=pictures, plot=plot, docs=docs)
    found = evaluation.run_evaluation(
        bundle,
        scenes=scenes or 500,
        first_seed=first_seed,
        world=world.value,
        files=files,
        tasks=None if tasks is None else [name.strip() for name in tasks.split(",")],
        grid=grid or bool(budgets),
        at=at or (),
        write=write,
        samples_per_pixel=samples_per_pixel,
        progress=not json,
        cache=cache,
        workers=workers,
        backend=backend,
        precision=precision,
        size=size,
        latency=pictures is not None,
        checks=[extras.check],
        looks=[extras.draw],
    )
    report, delta, controlled = found.report, extras.delta(found), extras.control(found)
    made = [*([] if write is None else [write]), *extras.write(report, bundle, given_options(context))]
    if json:
        print_json({**report.to_json(), "delta_m": delta, "controllability": controlled, "made": made})
    else:
        print_report(report, delta, controlled)
        for path in made:
            print(path)
    missed = [claim for claim, held in report.claims().items() if not held]
    if require and missed:
        say(f"slimpath: --require: not held: {'; '.join(missed)}")
        raise typer.Exit(CLAIM_MISSED)
