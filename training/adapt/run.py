"""`adapt`: from a checkpoint offered at full width, and pictures, to one that is slimmable, with a report beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...models import MultiTaskModel, save_checkpoint
from ..config import TrainConfig
from ..errors import ResumeError
from ..files import write_json
from ..journal import counting_bar
from .config import AdaptConfig
from .errors import AdaptError
from .measuring import WidthRow, check_judged, measure
from .network import Original, load_original
from .pictures import AdaptData, open_data
from .trainer import AdaptTrainer

__all__ = ["Adapted", "adapt", "adapt_checkpoint"]

SETTINGS_FILE, REPORT_FILE = "adapt.json", "report.json"


@dataclass(frozen=True)
class Adapted:
    """What a slice of an adaptation left behind. `checkpoint`, `report` and `rows` are there once it is finished.

    Args:
        data, labelled: the pictures, and whether their labels taught and judged; else the original did.
        trained, held: numbers of pictures.
        minutes: of training, over all slices.
    """

    checkpoint: Path | None
    report: Path | None
    widths: tuple[float, ...]
    tasks: tuple[str, ...]
    data: str
    labelled: bool
    trained: int
    held: int
    step: int
    steps: int
    minutes: float
    rows: tuple[WidthRow, ...]

    @property
    def finished(self) -> bool:
        """True if no steps are left."""
        return self.step >= self.steps


def adapt_checkpoint(
    checkpoint: Path,
    data: str,
    out: Path,
    config: AdaptConfig | None = None,
    *,
    labels: bool | None = None,
    held: int = 100,
    minutes: float | None = None,
    progress: bool = True,
) -> Adapted:
    """Make a checkpoint slimmable, or go on making it so.

    Args:
        checkpoint: offered at full width only.
        data, labels, held: see `open_data`.
        out: folder for checkpoint, report, settings, log, plot and state.
        minutes: stop cleanly after so much training; the next call goes on.
        progress: show progress on stderr.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        CheckpointError: it is damaged, or something else.
        AdaptError, DataError: what is asked for cannot be done; nothing is written then.
        ResumeError: `out` holds another adaptation.
        DivergedError: a loss or gradient is not finite.
    """
    config, out = config or AdaptConfig(), Path(out)
    original = load_original(Path(checkpoint))
    opened = open_data(data, original.model.config.tasks, original.model.config.image_hw, labels=labels, held=held)
    return adapt(original, opened, out, config, minutes=minutes, progress=progress)


def adapt(
    original: Original,
    data: AdaptData,
    out: Path,
    config: AdaptConfig,
    *,
    minutes: float | None = None,
    progress: bool = True,
) -> Adapted:
    """`adapt_checkpoint` for a network and pictures in memory."""
    from ...export.describe import preprocessing

    spec = preprocessing(original.metadata)
    settings = _settings(original, data, config)
    _check_target(out, settings)
    if data.labelled:
        check_judged(data.held, original.model.config.tasks, original.model.config.image_hw, spec)
    with counting_bar("order units", min(config.calibration, len(data.trained)), progress) as advance:
        trainer = AdaptTrainer(original, config, data, spec, out, advance)
    if trainer.state_file.exists():
        trainer.resume()
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SETTINGS_FILE, settings)
    trainer.run(minutes, progress)
    rows: list[WidthRow] = []
    if trainer.finished:
        model = trainer.result()
        _write_checkpoint(trainer, model, settings)  # first: whatever happens to the report, the training is kept
        with counting_bar("measure", len(data.held), progress) as advance:
            rows = measure(
                original.model,
                model,
                data.held,
                spec,
                config.widths,
                original.known_as,
                labelled=data.labelled,
                advance=advance,
            )
        _write_report(trainer, settings, rows)
    return Adapted(
        checkpoint=trainer.checkpoint_file if trainer.finished else None,
        report=out / REPORT_FILE if trainer.finished else None,
        widths=config.widths,
        tasks=original.model.config.task_names,
        data=data.name,
        labelled=data.labelled,
        trained=len(data.trained),
        held=len(data.held),
        step=trainer.step,
        steps=config.steps,
        minutes=trainer.minutes,
        rows=tuple(rows),
    )


def _settings(original: Original, data: AdaptData, config: AdaptConfig) -> dict[str, Any]:
    """What an adaptation is known by. Folders of this machine are nobody's business."""
    return {
        "checkpoint": {"file": original.path.name, "sha256": original.sha256},
        "data": {
            "name": data.name,
            "labels": data.labelled,
            "trained": len(data.trained),
            "held_out": len(data.held),
            "names_sha256": data.names_sha256,
        },
        "settings": json.loads(json.dumps(config.to_json())),
    }


def _check_target(out: Path, settings: Mapping[str, Any]) -> None:
    """A place is free if nothing is there, or this very adaptation, which goes on."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / SETTINGS_FILE).is_file():
        raise AdaptError(f"{out} is taken", hint="choose a folder that does not exist yet")
    try:
        found = json.loads((out / SETTINGS_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResumeError(f"{out / SETTINGS_FILE} is damaged: {error}", hint="choose another folder") from error
    if differs := [name for name, value in settings.items() if found.get(name) != value]:
        raise ResumeError(
            f"{out} holds another adaptation (other {', '.join(differs)})",
            hint="choose another folder, or repeat the command that began it",
        )


def _write_checkpoint(trainer: AdaptTrainer, model: MultiTaskModel, settings: Mapping[str, Any]) -> None:
    original = trainer.adapted
    provenance = {
        "adapted_by": "slimpath adapt",
        **settings,
        "minutes": round(trainer.minutes, 1),
        "began_as": original.metadata.get("provenance", {}),
    }
    save_checkpoint(trainer.checkpoint_file, model, {**original.metadata, "provenance": provenance})


def _write_report(trainer: AdaptTrainer, settings: Mapping[str, Any], rows: list[WidthRow]) -> None:
    training: TrainConfig = trainer.config
    document = {
        **settings,
        "training": json.loads(training.to_json()),
        "minutes": round(trainer.minutes, 2),
        "widths": [asdict(row) for row in rows],
    }
    write_json(trainer.out / REPORT_FILE, document)
