"""`slimpath convert`: a checkpoint of another project becomes one that `slimpath export` takes."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Debug, Json, need, parse_size, say, verb
from .output import human_bytes, print_json, print_table

if TYPE_CHECKING:
    from ..export.convert import ConvertReport


class Format(str, Enum):
    m3vit = "m3vit"
    mtlora = "mtlora"
    timm_vit = "timm-vit"
    timm_swin = "timm-swin"
    hydravit = "hydravit"


class Normalisation(str, Enum):
    imagenet = "imagenet"
    half = "half"
    none = "none"


@verb
def convert(
    format: Annotated[Format, typer.Argument(metavar="FORMAT", help="m3vit, mtlora, timm-vit, timm-swin or hydravit.")],
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The file; for m3vit also the folder with one file per rank.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    heads: Annotated[
        int | None, typer.Option("--heads", min=1, help="Attention heads (ViTs).", show_default="as published")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Experts that a token visits (m3vit).", show_default="none")
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option("--image-size", metavar="HxW", help="Input size in pixels.", show_default="as published"),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks", metavar="NAME", help="Name of the task, where a file does not say it.", show_default="label"
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="Factor on the adapters (mtlora without settings).", show_default="as stored"),
    ] = None,
    gate_input_ahead: Annotated[
        bool, typer.Option("--gate-input-ahead/--gate-input-normed", help="What routers read (m3vit).")
    ] = False,
    expert_prune: Annotated[
        bool, typer.Option("--expert-prune/--no-expert-prune", help="Gate scores up to 0.1 count as 0 (m3vit).")
    ] = False,
    ema: Annotated[bool, typer.Option("--ema/--no-ema", help="Take the averaged weights (timm's trainer).")] = False,
    normalise: Annotated[
        Normalisation,
        typer.Option("--normalise", help="Mean and deviation of the images: ImageNet's, 0.5 and 0.5, or 0 and 1."),
    ] = Normalisation.imagenet,
    list_names: Annotated[
        bool, typer.Option("--list/--no-list", help="Print where every tensor came from and went.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint of another project into one of slimpath's, without running anything in it.

    What cannot be read from the tensors is asked for; what is assumed is said. A converted model is offered at full
    width: narrower ones were never trained.

    \b
    Examples:
      slimpath convert m3vit runs/best_model.pth.tar m3vit.safetensors --top-k 4
      slimpath convert mtlora ckpt_epoch_299.pth mtlora.safetensors
      slimpath convert timm-vit deit_small.pth vit.safetensors --tasks animal
    """
    need(("torch", "safetensors"), "export", "`slimpath convert`")
    from ..export.convert import ConvertOptions
    from ..export.convert import convert as run_conversion

    options = ConvertOptions(
        heads=heads,
        top_k=top_k,
        image_hw=parse_size(image_size) if image_size else None,
        tasks=tuple(name.strip() for name in tasks.split(",")) if tasks else (),
        scale=scale,
        gate_input_ahead=gate_input_ahead,
        expert_prune=expert_prune,
        ema=ema,
        normalise=normalise.value,
    )
    report = run_conversion(format.value, source, out, options)
    size = report.path.stat().st_size
    if json:
        print_json({**report.__dict__, "bytes": size})
        return
    if list_names:
        _print_names(report)
    for line in report.assumed:
        say(f"slimpath: assumed: {line}")
    for reason, count in report.dropped.items():
        say(f"slimpath: not needed: {count} tensors, {reason}")
    height, width = report.image_hw
    print(
        f"{report.path}: {human_bytes(size)}, {report.family}, {report.parameters / 1e6:.2f} M parameters, "
        f"{height}x{width}, tasks {', '.join(report.tasks)}; all {report.read} tensors accounted for"
    )


def _print_names(report: ConvertReport) -> None:
    rows = [(foreign, own) for own, foreign in report.names.items()]
    rows += [(foreign, f"not needed: {reason}") for foreign, reason in report.dropped_names.items()]
    print_table("", ("foreign name", "name here"), rows)
