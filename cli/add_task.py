"""`slimpath add-task`: one more task for a finished bundle, as a pack beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Debug, Json, need, verb
from .errors import InputError
from .output import human_bytes, print_json, print_table

if TYPE_CHECKING:
    from ..training.packs.run import AddedTask, Samples

ROOMS = "synthrooms"


@verb
def add_task(
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="[BUNDLE]", help="The bundle that gets a task.", show_default="the bundled model"),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            "--task", metavar="NAME", help="The new task. Of rooms: layout or height; of a folder: any new name."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", metavar="PACK", help="The folder to write.")] = None,
    data: Annotated[
        str,
        typer.Option("--data", metavar="DATA", help='"synthrooms", or a folder with images/ and labels/.'),
    ] = ROOMS,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="Of a folder's labels: classes, depth, normals, probability or image_classes.",
        ),
    ] = "classes",
    classes: Annotated[
        str, typer.Option("--classes", metavar="LIST", help="Names of a folder's classes, in order of their ids.")
    ] = "",
    unit: Annotated[str, typer.Option("--unit", help="Of a folder's values; by the kind if left out.")] = "",
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="TASK", help="Task to begin from.", show_default="one of the same kind"),
    ] = None,
    rooms: Annotated[int, typer.Option("--rooms", min=2, help="Rooms to render and train on.")] = 600,
    held: Annotated[int, typer.Option("--held", min=1, help="Rooms that are held out and judged on.")] = 100,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training.")] = 400,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures a step, at the bundle's size.")] = 12,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate.")] = 1e-3,
    precision: Annotated[str, typer.Option("--precision", help="Of the training: bf16 or fp32.")] = "bf16",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal packs.")] = 0,
    grid: Annotated[
        bool, typer.Option("--grid", help="Measure every (encoder width, top_k, decoder width), not only every width.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Add a task to a finished bundle without touching it: train a task pack.

    The backbone is frozen. What is trained is the task's own: routers, adapters where the bundle has such, and a head.
    They are written as a small folder that names its bundle by hash. The bundle's other tasks answer as before, to the
    last bit. The new task is measured on pictures that nothing was trained on. `run`, `plan` and `serve` take packs.

    \b
    Examples:
      slimpath add-task --task layout --out layout.pack
      slimpath add-task my_bundle --data parts/ --task parts --classes hull,wing,tail --out parts.pack
      slimpath add-task --task height --out height.pack --steps 800 --grid
    """
    need(("torch", "onnxscript", "safetensors"), "train", "`slimpath add-task`")
    if not task or out is None:
        raise InputError(
            f"a task needs a name and a place, got {'no --out' if task else 'no --task'}",
            hint="for example slimpath add-task --task layout --out layout.pack",
        )
    from ..runtime import bundled_path
    from ..training.packs.run import PackConfig, with_room_views
    from ..training.packs.run import add_task as run_add_task

    where = bundle or bundled_path()
    config = PackConfig(steps=steps, batch=batch, lr=lr, precision=precision, seed=seed)
    if data == ROOMS:
        config = with_room_views(config, task)
    samples = _samples(where, data, task, kind, _names(classes), unit, rooms, held)
    made = run_add_task(where, samples, out, config=config, like=like, grid=grid, progress=not json)
    if json:
        print_json(describe_added(made))
    else:
        _print(made)


def _samples(
    bundle: Path, data: str, task: str, kind: str, classes: tuple[str, ...], unit: str, rooms: int, held: int
) -> Samples:
    from ..runtime import Bundle, TaskSpec
    from ..training.packs.folder import open_folder
    from ..training.packs.kinds import check_kind
    from ..training.packs.run import Samples, room_samples

    if data == ROOMS:
        return room_samples(task, Bundle.open(bundle).manifest.sizes[0], rooms=rooms, held=held)
    channels = check_kind(kind, len(classes))
    units = {"classes": "class id", "depth": "m", "normals": "unit vector"}
    spec = TaskSpec(task, kind, channels, classes, unit=unit or units.get(kind, "probability"))  # type: ignore[arg-type]
    return Samples(spec, *open_folder(Path(data), spec))


def _names(classes: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in classes.split(",") if name.strip())


def describe_added(made: AddedTask) -> dict[str, Any]:
    """What `add-task` tells, as one document."""
    parameters = made.pack.parameters
    return {
        "path": made.pack.path,
        "bytes": made.pack.size_bytes,
        "task": made.task,
        "began_from": made.like,
        "parameters": {
            **{name: getattr(parameters, name) for name in ("router", "adapters", "head", "base")},
            "share_in_encoder": parameters.in_encoder / parameters.base,
            "share": parameters.total / parameters.base,
        },
        "worst_error": made.pack.worst_error,
        "configurations": [asdict(row) for row in made.rows],
        "train_seconds": made.train_seconds,
        "seconds": made.seconds,
    }


def _print(made: AddedTask) -> None:
    rows = [
        (
            f"{row.encoder_width:g}",
            row.top_k or "-",
            f"{row.decoder_width:g}",
            f"{row.accuracy.value:.4g} {row.metric}",
            f"{row.accuracy.low:.4g} to {row.accuracy.high:.4g}",
            f"{row.constant:.4g}",
            f"{row.pixel_mean:.4g}",
            f"{100 * row.gain.value:+.0f} %",
        )
        for row in made.rows
    ]
    names = ("encoder", "top_k", "decoder", made.task.name, "95 % interval", "constant", "mean picture", "gain")
    print_table(
        f"{made.task.name}, {made.rows[0].samples} held-out pictures; gain over the better of two blind answers",
        names,
        rows,
        numeric=(0, 1, 2, 5, 6, 7),
    )
    parameters = made.pack.parameters
    print(
        f"began from {made.like}; {made.train_seconds / 60:.1f} min of training; "
        f"{parameters.in_encoder} parameters in the encoder ({100 * parameters.in_encoder / parameters.base:.2f} % of "
        f"the model), {parameters.head} in the head ({100 * parameters.head / parameters.base:.2f} %)"
    )
    print(
        f"{made.pack.path}: {human_bytes(made.pack.size_bytes)}, largest difference from the network "
        f"{made.pack.worst_error:.1e}"
    )
