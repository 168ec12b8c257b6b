"""`slimpath export`: a checkpoint becomes a bundle, or one stand-alone ONNX file, checked on the way."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .calibration import ROOMS
from .common import BAD_INPUT, Debug, Json, need, parse_numbers, parse_size, say, verb
from .errors import CliError, InputError
from .export_cpu import Experts, LowPrecision, print_outcome, write_bundle, write_standalone
from .export_gpu import GpuOptions, export_for_gpu, print_gpu_outcome
from .export_gpu import lint as lint_graphs
from .export_triton import export_to_triton
from .output import progress_bar

if TYPE_CHECKING:
    from ..export import ExportReport
    from ..export.gpu import GpuReport


class Device(str, Enum):
    cpu = "cpu"
    gpu = "gpu"


class Target(str, Enum):
    bundle = "bundle"
    standalone = "standalone"
    triton = "triton"


@verb
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A .safetensors file that `slimpath train` wrote; with --target gpu also a bundle; with --lint a "
            "bundle or an .onnx file.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="The folder (bundle) or file (stand-alone) to write.")
    ] = None,
    to: Annotated[
        Target,
        typer.Option("--to", help="A bundle for slimpath, one ordinary ONNX file, or Triton's model repository."),
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
            help="Pictures to measure that mass on, and ranges of --gpu-precision int8: a folder, or N rendered rooms.",
            show_default=f"rooms:{ROOMS} where they are needed",
        ),
    ] = None,
    precision: Annotated[
        LowPrecision,
        typer.Option(
            "--precision",
            help="int8: a bundle gets encoders with their large products in int8 beside those in fp32; a stand-alone "
            "file has that precision.",
        ),
    ] = LowPrecision.fp32,
    target: Annotated[
        Device,
        typer.Option(
            "--target",
            help="gpu: the bundle also gets graphs for TensorRT and CUDA graphs, with fixed shapes, checked by the "
            "linter. Of a bundle as CHECKPOINT everything is kept, accuracies too.",
        ),
    ] = Device.cpu,
    gpu_precision: Annotated[
        str | None,
        typer.Option("--gpu-precision", metavar="LIST", help="Of these graphs: fp32, fp16, int8.", show_default="fp16"),
    ] = None,
    encoders: Annotated[
        str | None,
        typer.Option(
            "--encoders",
            metavar="LIST",
            help="Of these graphs: WIDTH:TOP_K of every encoder, such as 0.25:1,1:4.",
            show_default="4 of the Pareto set",
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            "--batch",
            metavar="IxB",
            help="Of these graphs: images and rows (an image with a task) of a batch; repeat for several.",
            show_default="1x1, and 1 with all tasks",
        ),
    ] = None,
    lint: Annotated[
        str | None,
        typer.Option(
            "--lint",
            metavar="NAME",
            help="Write nothing: say what tensorrt (10.x and 11.x), tensorrt-10 or tensorrt-11 would refuse in "
            "CHECKPOINT, and what to do instead.",
            show_default="off",
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
      slimpath export model.safetensors --out my_bundle --precision int8
      slimpath export model.safetensors --out depth.onnx --to standalone --tasks depth --width 0.5
      slimpath export my_bundle --out gpu_bundle --target gpu --encoders 0.25:1,1:4 --batch 1x5
      slimpath export gpu_bundle --lint tensorrt
      slimpath export my_bundle --out model_repository --to triton --widths 0.5,1
    """
    need(("torch", "onnx", "onnx_ir", "onnxscript", "safetensors"), "export", "`slimpath export`")
    if lint is not None:
        return lint_graphs(checkpoint, lint, json)
    if to is Target.triton:
        fixed = (size, top_k, expert_coverage, calibration, gpu_precision, encoders, batch)
        others = any(fixed) or width != 1.0 or precision is LowPrecision.int8 or target is Device.gpu
        return export_to_triton(
            checkpoint, out, name=name, tasks=tasks, widths=widths, other_options=others, check=check, json=json
        )
    gpu = GpuOptions(gpu_precision, encoders, batch)
    gpu.check(wanted=target is Device.gpu)
    if out is None:
        raise InputError("where to write is missing", hint="add --out PATH")
    if not checkpoint.is_file() and not (target is Device.gpu and checkpoint.is_dir()):
        raise InputError(f"{checkpoint}: there is no such checkpoint file")
    sizes = [parse_size(text) for text in size or ()] or None
    report: ExportReport | None = None
    for_gpu: GpuReport | None = None
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
            experts = Experts(expert_coverage, calibration)

            def plain(path: Path) -> ExportReport:
                named = name or checkpoint.stem  # a bundle that is only a step on the way has another path
                return write_bundle(checkpoint, path, sizes, chosen, experts, precision, check, named, progress)

            if target is Device.gpu:
                for_gpu = export_for_gpu(checkpoint, out, gpu, plain, calibration, check, progress)
            else:
                report = plain(out)
        else:
            if widths is not None or name is not None or (sizes and len(sizes) > 1):
                raise CliError(
                    "a stand-alone file has one size, one width and no name", hint="use --width, and --size once"
                )
            if expert_coverage is not None or calibration is not None:
                raise CliError("--expert-coverage and --calibration are for bundles", hint="leave them out")
            kept = [task.strip() for task in tasks.split(",")] if tasks else None
            if target is Device.gpu:
                raise CliError("--target gpu is for bundles", hint="leave --to out")
            report = write_standalone(
                checkpoint, out, kept, width, top_k, sizes[0] if sizes else None, precision, check, progress
            )
    if for_gpu is not None:
        return print_gpu_outcome(for_gpu, json)
    assert report is not None
    print_outcome(report, json)
    if not report.passed:
        say("slimpath: the largest difference is above the tolerance: do not deploy this")
        raise typer.Exit(BAD_INPUT)
