"""`slimpath train`: from settings to a checkpoint, in slices if need be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Debug, Json, need, verb
from .errors import InputError
from .output import human_bytes, print_json

if TYPE_CHECKING:
    from ..training.config import TrainConfig


@verb
def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG", help='A preset ("bundled", "bundled-wide", "smoke", "micro") or a .json file of settings.'
        ),
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE...]", help="Settings that differ.", show_default=False)
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for checkpoint, state, log, plot and sample pictures.")
    ] = Path("runs/train"),
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="LAYOUT=DIR",
            help="Train on files, not rendered rooms: pascal_mt, nyud_mt, nyud_v2, mtan or folder, and where they "
            "lie. docs/training.md has the layouts.",
            show_default="rendered rooms",
        ),
    ] = None,
    sharpness: Annotated[
        str | None, typer.Option("--sharpness", metavar="NAME", help="none, samo, or flat: minima flat for each task.")
    ] = None,
    aggregate: Annotated[
        str | None,
        typer.Option(
            "--aggregate", metavar="NAME", help="How tasks' gradients join: sum, pcgrad, cagrad, upgrad or mgda."
        ),
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option("--weighting", metavar="NAME", help="Weights of tasks: equal, or uncertainty (learnt)."),
    ] = None,
    ci_kd: Annotated[
        float | None,
        typer.Option("--ci-kd", metavar="WEIGHT", help="Keep the encoder's features equal at all widths (CI-KD)."),
    ] = None,
    rep_mtl: Annotated[
        float | None,
        typer.Option("--rep-mtl", metavar="WEIGHT", help="Regulate and align the saliencies of tasks (Rep-MTL)."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", min=0.0, help="Stop cleanly after this time; the next call goes on.", show_default="all steps"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from the state in DIR, if there is one.")
    ] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a slimmable multi-task model, or go on training it.

    \b
    Examples:
      slimpath train smoke --out runs/smoke
      slimpath train micro --out runs/micro methods.ci_kd=0.5
      slimpath train bundled device=cuda lr=1e-3 --out runs/mine
      slimpath train runs/mine/config.json --out runs/mine --minutes 10
      slimpath train bundled --sharpness flat --aggregate pcgrad --ci-kd 0.5 --out runs/flat
      slimpath train bundled tasks=semseg,depth --dataset nyud_mt=data/NYUD_MT --out runs/nyud
    """
    need(("torch", "matplotlib", "tqdm", "safetensors"), "train", "`slimpath train`")
    from ..training import distributed
    from ..training.presets import with_overrides
    from ..training.run_train import train as run_training

    options = {
        "sharpness": sharpness,
        "aggregate": aggregate,
        "weighting": weighting,
        "ci_kd": ci_kd,
        "rep_tsr": rep_mtl,
        "rep_csa": rep_mtl,
    }
    methods = [f"methods.{name}={value}" for name, value in options.items() if value is not None]
    chosen = with_overrides(with_dataset(read_config(config), dataset), [*methods, *(settings or [])])
    result = run_training(chosen, out, minutes=minutes, resume=resume, progress=not json)
    leads = distributed.rank() == 0
    distributed.leave()
    if not leads:  # one of torchrun's processes speaks for all
        return
    size = result.checkpoint.stat().st_size
    if json:
        print_json({**dataclasses.asdict(result), "finished": result.finished, "bytes": size})
        return
    rest = "finished" if result.finished else "the same command goes on"
    print(f"log {result.log}, plot {result.plot}")
    done = f"step {result.step} of {result.steps}, {result.minutes:.1f} min"
    print(f"{result.checkpoint}: {human_bytes(size)}, {done}; {rest}")


def with_dataset(config: TrainConfig, text: str | None) -> TrainConfig:
    """Settings that read the files of a --dataset.

    Raises:
        InputError: it is not LAYOUT=DIR.
    """
    if text is None:
        return config
    layout, equals, root = text.partition("=")
    if not (layout and equals and root):
        raise InputError(f"--dataset must be LAYOUT=DIR, got '{text}'", hint="for example nyud_mt=data/NYUD_MT")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, dataset=layout, root=root))


def read_config(name: str) -> TrainConfig:
    """Settings from a preset's name or a .json file.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: neither a preset nor usable settings.
    """
    from ..training.config import TrainConfig
    from ..training.presets import preset

    if name.endswith(".json") or Path(name).is_file():
        return TrainConfig.from_json(Path(name).read_text(encoding="utf-8"))
    return preset(name)
