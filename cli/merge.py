"""`slimpath merge`: several single-task fine-tunes of one base become one multi-task checkpoint."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Debug, Json, need, verb
from .output import human_bytes, percent, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from ..training.merging import MergeReport


class Method(str, Enum):
    task_arithmetic = "task-arithmetic"
    ties = "ties"
    adamerging = "adamerging"
    atlas = "atlas"
    twin = "twin"


class Regression(str, Enum):
    fine_tune = "fine-tune"
    none = "none"


class Exclusive(str, Enum):
    adapters = "adapters"
    static = "static"


@verb
def merge(
    base: Annotated[
        Path,
        typer.Argument(metavar="BASE", help="The checkpoint that all fine-tunes started from.", show_default=False),
    ],
    fine_tunes: Annotated[
        list[str],
        typer.Argument(
            metavar="[TASK=]FILE...",
            help="The fine-tunes; TASK= where a file holds more tasks than the one that is meant.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The .safetensors file to write; settings beside it as .json.")
    ] = Path("merged.safetensors"),
    method: Annotated[
        Method,
        typer.Option(
            "--method",
            help="task-arithmetic: the sum of what the fine-tunings changed, times --scale. ties: the same after "
            "trimming and a vote on signs. adamerging: a coefficient per tensor and task, learned on unlabelled "
            "pictures. atlas: the same, learned on labelled ones. twin: a shared backbone, and low-rank parts that "
            "each task keeps.",
        ),
    ] = Method.task_arithmetic,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks", metavar="LIST", help="Tasks that the result must have, in its order.", show_default="all"
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale",
            help="Factor on the task vectors (twin: of the shared part); where learned coefficients start.",
            show_default="0.3; ties 1, atlas 0",
        ),
    ] = None,
    keep: Annotated[
        float, typer.Option("--keep", help="ties: share of each task vector, by magnitude, that is kept.")
    ] = 0.2,
    ties_first: Annotated[
        bool, typer.Option("--ties-first/--no-ties-first", help="adamerging: on vectors that ties trimmed (++).")
    ] = False,
    regression: Annotated[
        Regression,
        typer.Option(
            "--regression",
            help="adamerging, tasks without an entropy (depth, normals): stay near the answers of their fine-tune, or "
            "are left out of what is learned.",
        ),
    ] = Regression.fine_tune,
    exclusive: Annotated[
        Exclusive,
        typer.Option("--exclusive", help="twin: keep exclusive parts as adapters of each task, or merge their mean."),
    ] = Exclusive.adapters,
    rank: Annotated[int, typer.Option("--rank", min=1, help="twin: singular values kept of every matrix.")] = 8,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DIR|rooms:N",
            help="adamerging, atlas: a folder of pictures (atlas: of rendered rooms, with labels), or N rendered "
            "rooms.",
        ),
    ] = "rooms:64",
    steps: Annotated[int, typer.Option("--steps", min=1, help="adamerging, atlas: updates of the coefficients.")] = 500,
    images: Annotated[int, typer.Option("--images", min=1, help="adamerging, atlas: pictures per update.")] = 16,
    lr: Annotated[float, typer.Option("--lr", help="adamerging, atlas: learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="adamerging, atlas: order of the pictures.")] = 0,
    check_base: Annotated[
        bool,
        typer.Option("--check-base/--no-check-base", help="Refuse fine-tunes that seem to come from another base."),
    ] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Merge single-task fine-tunes of one base into one multi-task model, which `slimpath export` takes.

    The backbone is merged; every task keeps the head (and the routers and adapters) of its own fine-tune. Merging costs
    accuracy that training all tasks together would not: measure the result with `slimpath eval`.

    \b
    Examples:
      slimpath merge base.safetensors depth.safetensors semseg.safetensors --method ties
      slimpath merge base.safetensors depth=a.safetensors edge=b.safetensors --method adamerging --data photos
      slimpath merge base.safetensors depth.safetensors semseg.safetensors --method twin --rank 16
    """
    need(("torch", "safetensors"), "train", "`slimpath merge`")
    from ..training.merging import MergeConfig, Source, merge_checkpoints

    config = MergeConfig(
        method=method.value,
        scale=scale,
        keep=keep,
        ties_first=ties_first,
        regression=regression.value,
        exclusive=exclusive.value,
        rank=rank,
        steps=steps,
        images=images,
        lr=lr,
        seed=seed,
    )
    sources = [Source.parse(text) for text in fine_tunes]
    wanted = tuple(name.strip() for name in tasks.split(",")) if tasks else ()
    with progress_bar("merge", steps if config.learned else None, shown=not json) as bar:
        report = merge_checkpoints(
            base,
            sources,
            out,
            config,
            data=data,
            tasks=wanted,
            check_base=check_base,
            progress=lambda done, loss: bar.update(bar.task_ids[0], completed=done, description=f"merge {loss:.3f}"),
        )
    size = report.checkpoint.stat().st_size
    if json:
        print_json({**report.__dict__, "bytes": size})
        return
    _print_report(report, size)


def _print_report(report: MergeReport, size: int) -> None:
    names = list(report.lengths)
    rows = [
        (name, percent(report.lengths[name]), *(f"{cosine:.2f}" for cosine in cosines))
        for name, cosines in zip(names, report.cosines, strict=True)
    ]
    print_table("", ("task vector", "length / base", *(f"cos {name}" for name in names)), rows)
    if report.first_loss is not None and report.last_loss is not None:
        print(f"learned on {report.data}: loss {report.first_loss:.4g} -> {report.last_loss:.4g}")
    if report.carried:
        print(f"each task keeps its own low-rank part of {len(report.carried)} matrices")
    print(
        f"{report.checkpoint}: {human_bytes(size)}, {report.method}, tasks {', '.join(report.tasks)}, "
        f"{report.parameters / 1e6:.2f} M parameters; settings in {report.settings}"
    )
