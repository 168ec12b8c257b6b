"""`slimpath export`: a checkpoint becomes a bundle, or one stand-alone ONNX file, checked on the way."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .calibration import ROOMS, load_calibration
from .common import BAD_INPUT, Debug, Json, need, parse_numbers, parse_size, say, verb
from .errors import CliError, InputError
from .output import print_json, progress_bar

if TYPE_CHECKING:
    from ..export import ExportReport

Progress = Callable[[str, int, int], None]


class Target(str, Enum):
    bundle = "bundle"
    standalone = "standalone"


@verb
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file that `slimpath train` wrote.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="The folder (bundle) or file (stand-alone) to write.")
    ],
    to: Annotated[
        Target, typer.Option("--to", help="A bundle for slimpath, or one ordinary ONNX file.")
    ] = Target.bundle,
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size", metavar="HxW", help="Input size; repeat for several.", show_default="the size it was trained at"
        ),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths", metavar="LIST", help="Widths of the bundle, for example 0.5,1.", show_default="all of the model"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the bundle.", show_default="that of the checkpoint")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="LIST", help="Stand-alone: tasks to keep.", show_default="all")
    ] = None,
    width: Annotated[
        float, typer.Option("--width", min=0.01, max=1.0, help="Stand-alone: the one width it runs at.")
    ] = 1.0,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=1, help="Stand-alone: experts a token visits.", show_default="as trained"),
    ] = None,
    expert_coverage: Annotated[
        float | None,
        typer.Option(
            "--expert-coverage",
            metavar="SHARE",
            help="Bundle: each task keeps the fewest experts that get this share of its router mass, and never reads "
            "the others.",
            show_default="all experts",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DIR|rooms:N",
            help="Pictures to measure that mass on: a folder of them, or N rendered rooms.",
            show_default=f"rooms:{ROOMS} with --expert-coverage",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Run what was written and compare it with the network.")
    ] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint into something that deploys, and compare the two.

    The exit code is 0 only if every difference is within tolerance.

    \b
    Examples:
      slimpath export model.safetensors --out my_bundle
      slimpath export model.safetensors --out my_bundle --size 224x224 --size 320x320 --widths 0.5,1
      slimpath export model.safetensors --out my_bundle --expert-coverage 0.99 --calibration photos
      slimpath export model.safetensors --out depth.onnx --to standalone --tasks depth --width 0.5
    """
    need(("torch", "onnx", "onnx_ir", "onnxscript", "safetensors"), "export", "`slimpath export`")
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: there is no such checkpoint file")
    sizes = [parse_size(text) for text in size or ()] or None
    with progress_bar("exporting", None, shown=not json) as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.update(bar.task_ids[0], description=what, completed=done, total=total)

        if to is Target.bundle:
            if tasks is not None or width != 1.0 or top_k is not None:
                raise CliError(
                    "--tasks, --width and --top-k fix one configuration; a bundle holds them all",
                    hint="add --to standalone, or leave them out",
                )
            chosen = sorted(parse_numbers(widths, "--widths", 0, 1)) if widths else None
            experts = _Experts(expert_coverage, calibration)
            report = _export_bundle(checkpoint, out, sizes, chosen, experts, check, name, progress)
        else:
            if widths is not None or name is not None or (sizes and len(sizes) > 1):
                raise CliError(
                    "a stand-alone file has one size, one width and no name", hint="use --width, and --size once"
                )
            if expert_coverage is not None or calibration is not None:
                raise CliError("--expert-coverage and --calibration are for bundles", hint="leave them out")
            kept = [task.strip() for task in tasks.split(",")] if tasks else None
            report = _export_standalone(
                checkpoint, out, kept, width, top_k, sizes[0] if sizes else None, check, progress
            )
    _print_outcome(report, json)
    if not report.passed:
        say("slimpath: the largest difference is above the tolerance: do not deploy this")
        raise typer.Exit(BAD_INPUT)


class _Experts(NamedTuple):
    """What the command line says of experts."""

    coverage: float | None
    calibration: str | None


def _export_bundle(
    checkpoint: Path,
    out: Path,
    sizes: list[tuple[int, int]] | None,
    widths: list[float] | None,
    experts: _Experts,
    check: bool,
    name: str | None,
    progress: Progress,
) -> ExportReport:
    from ..export import export_bundle

    coverage = 1.0
    if experts.coverage is not None:
        coverage = parse_numbers(str(experts.coverage), "--expert-coverage", 0, 1)[0]
    return export_bundle(
        checkpoint,
        out,
        sizes=sizes,
        widths=widths,
        check=check,
        name=name,
        calibration=None if experts == _Experts(None, None) else load_calibration(experts.calibration),
        expert_coverage=coverage,
        progress=progress,
    )


def _export_standalone(
    checkpoint: Path,
    out: Path,
    tasks: list[str] | None,
    width: float,
    top_k: int | None,
    size: tuple[int, int] | None,
    check: bool,
    progress: Progress,
) -> ExportReport:
    from ..export import export_standalone

    return export_standalone(
        checkpoint, out, tasks=tasks, width=width, top_k=top_k, size=size, check=check, progress=progress
    )


def _print_outcome(report: ExportReport, json: bool) -> None:
    if json:
        print_json(
            {
                "path": str(report.path),
                "bytes": report.size_bytes,
                "weights_bytes": report.weights_bytes,
                "worst_error": report.worst_error,
                "passed": report.passed,
                "graphs": report.graphs,
                "kept_experts": report.kept_experts,
            }
        )
        return
    worst = report.worst_error
    difference = (
        "not compared with the network" if worst is None else f"largest difference from the network {worst:.1e}"
    )
    for task, counts in report.kept_experts.items():
        print(f"{task} can reach {', '.join(map(str, counts))} experts of its blocks")
    print(f"{report.path}: {report.size_bytes / 1e6:.2f} MB, {difference}")
