"""`slimpath adapt`: a checkpoint offered at full width becomes slimmable."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Debug, Json, need, parse_numbers, verb
from .output import human_bytes, print_json, print_table

if TYPE_CHECKING:
    from ..training.adapt import Adapted


class Importance(str, Enum):
    fisher = "fisher"
    magnitude = "magnitude"
    none = "none"


@verb
def adapt(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="A .safetensors file that is offered at full width.", show_default=False
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DIR|LAYOUT=DIR|rooms:N",
            help="A folder of pictures; labelled files in a layout of docs/training.md, such as folder=mine or "
            "nyud_mt=data/NYUD_MT; or N rendered rooms.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for checkpoint, report, settings, log and state.")
    ] = Path("runs/adapt"),
    labels: Annotated[
        bool | None,
        typer.Option(
            "--labels/--no-labels",
            help="Whether ground truth teaches and judges beside the full-width original; without it, that alone does.",
            show_default="if the data has labels",
        ),
    ] = None,
    widths: Annotated[
        str, typer.Option("--widths", metavar="LIST", help="Widths that the result offers.")
    ] = "0.25,0.5,0.75,1",
    importance: Annotated[
        Importance,
        typer.Option(
            "--importance",
            help="What decides which units are kept longest. fisher: how far the answers move without a unit, on "
            "pictures; magnitude: the norm of its weights; none: the order they have.",
        ),
    ] = Importance.fisher,
    native_decoders: Annotated[
        bool,
        typer.Option(
            "--native-decoders/--keep-decoders",
            help="Replace published decoders, which have one width, by native ones, which are slimmable and cheaper.",
        ),
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training.")] = 1000,
    images: Annotated[int, typer.Option("--images", min=1, help="Pictures a step, each with all tasks.")] = 8,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate.")] = 3e-4,
    distill: Annotated[
        float,
        typer.Option("--distill", min=0.0, max=1.0, help="With labels: share of the original in the loss."),
    ] = 0.5,
    calibration: Annotated[
        int, typer.Option("--calibration", min=1, help="Pictures to measure importance on (fisher).")
    ] = 64,
    held: Annotated[int, typer.Option("--held", min=1, help="rooms:N: rooms that are held out and judged on.")] = 100,
    precision: Annotated[str, typer.Option("--precision", help="Of the training: bf16 or fp32.")] = "bf16",
    device: Annotated[str, typer.Option("--device", help="Where to train: cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal results.")] = 0,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", min=0.0, help="Stop cleanly after this time; the same command goes on.", show_default="all"
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a converted checkpoint slimmable: order its units by importance, then train all widths at once.

    The order alone changes nothing at full width. Training follows the sandwich rule, and the full-width original
    teaches every width, so pictures are enough; labels help. The result is a checkpoint that `slimpath export` takes,
    and a report of every width before and after, on pictures that were held out. Repeat a command that was
    interrupted: it goes on.

    \b
    Examples:
      slimpath adapt m3vit.safetensors --data photos --out runs/m3vit
      slimpath adapt mtlora.safetensors --data pascal_mt=data/PASCAL_MT --native-decoders --out runs/mtlora
      slimpath adapt vit.safetensors --data photos --widths 0.5,1 --steps 4000 --images 32
    """
    # All that is imported on the way, so that nothing is found missing when the data has been read already.
    libraries = ("torch", "matplotlib", "onnx", "onnx_ir", "onnxscript", "safetensors", "tqdm")
    need(libraries, "train", "`slimpath adapt`")
    from ..training.adapt import AdaptConfig, adapt_checkpoint

    config = AdaptConfig(
        widths=tuple(parse_numbers(widths, "--widths", 0, 1)),
        importance=importance.value,
        calibration=calibration,
        native_decoders=native_decoders,
        steps=steps,
        images=images,
        lr=lr,
        distill_weight=distill,
        precision=precision,
        device=device,
        seed=seed,
    )
    done = adapt_checkpoint(checkpoint, data, out, config, labels=labels, held=held, minutes=minutes, progress=not json)
    if json:
        print_json({**asdict(done), "finished": done.finished})
        return
    _print(done)


def _print(done: Adapted) -> None:
    at = f"step {done.step} of {done.steps}, {done.minutes:.1f} min of training"
    if done.checkpoint is None or done.report is None:
        print(f"{at}; the same command goes on")
        return
    rows = [
        (
            row.task,
            f"{row.width:g}",
            f"{row.metric} {'↑' if row.higher_is_better else '↓'}",
            f"{row.before.value:.4g}",
            f"{row.after.value:.4g}",
            f"{row.gain.value:+.4g}",
            f"{row.gain.low:+.4g} to {row.gain.high:+.4g}",
        )
        for row in done.rows
    ]
    judge = "labels" if done.labelled else "the original's answers at full width"
    print_table(
        f"{done.held} held-out pictures of {done.data}, judged by {judge}",
        ("task", "width", "metric", "before", "after", "better by", "95 % interval"),
        rows,
        numeric=(1, 3, 4, 5, 6),
    )
    widths = ", ".join(f"{width:g}" for width in done.widths)
    print(f"{at}; report in {done.report}")
    print(
        f"{done.checkpoint}: {human_bytes(done.checkpoint.stat().st_size)}, widths {widths}; `slimpath export` takes it"
    )
