"""`train`: from settings to a checkpoint, in slices if need be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import TrainConfig
from .errors import ResumeError
from .sources import SampleSource, open_source
from .trainer import Trainer

__all__ = ["TrainResult", "room_classes", "saved_config", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a slice of training left behind.

    `checkpoint` holds the averaged weights after `step` of `steps` steps, trained for `minutes` over all slices.
    """

    checkpoint: Path
    log: Path
    plot: Path
    step: int
    steps: int
    minutes: float

    @property
    def finished(self) -> bool:
        """True if no steps are left."""
        return self.step >= self.steps


def train(
    config: TrainConfig,
    out: Path,
    minutes: float | None = None,
    resume: bool = True,
    progress: bool = True,
    *,
    source: SampleSource | None = None,
    classes: Mapping[str, int] | None = None,
) -> TrainResult:
    """Train a model, or go on training it.

    Args:
        config: every setting; written to `out / "config.json"`.
        out: folder for checkpoint, state, log, plot and sample pictures.
        minutes: stop cleanly after this time; the next call goes on. None: until all steps are done.
        resume: go on from the state in `out`, if there is one.
        progress: show a progress bar on stderr.
        source: samples to train on, instead of those that `config.data` names.
        classes: number of classes of each task that has classes in `source`; by default those that the source names,
            or those of SynthRooms.

    Raises:
        ResumeError: `out` holds a training that is not to be resumed, or that has other settings.
        DivergedError: a loss or gradient is not finite.
    """
    out = Path(out)
    source = source or open_source(config)
    trainer = Trainer(config, source, classes or source_classes(source), out, progress=progress)
    if trainer.state_file.exists():
        if not resume:
            raise ResumeError(f"{out} already holds a training; resume it, or choose another folder")
        trainer.resume()
    trainer.run(minutes, progress)
    return TrainResult(
        trainer.checkpoint_file, out / "log.csv", out / "loss.png", trainer.step, config.steps, trainer.minutes
    )


def saved_config(out: Path) -> TrainConfig:
    """The settings of the training in `out`.

    Raises:
        FileNotFoundError: there is none.
    """
    return TrainConfig.from_json((Path(out) / "config.json").read_text(encoding="utf-8"))


def source_classes(source: SampleSource) -> dict[str, int]:
    """Number of classes of each task that has classes, as the source says; SynthRooms says nothing."""
    return getattr(source, "classes", None) or room_classes()


def room_classes() -> dict[str, int]:
    """Number of classes of the SynthRooms tasks that have classes."""
    from .synthrooms import CLASSES, ROOM_TYPES

    return {"semseg": len(CLASSES), "scene": len(ROOM_TYPES)}
