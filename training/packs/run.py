"""`add_task`: from a bundle and labelled pictures to a task pack."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...export.pack import PackReport, check_pack_target, export_pack
from ...export.reload import model_from_bundle
from ...models import HeadConfig
from ...runtime.bundles.accuracy import Accuracy
from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.manifest import TASK_NAME
from ...runtime.packs.extend import extend
from ...runtime.packs.pack import Pack
from ...runtime.tasks import TaskSpec
from ..errors import ConfigError
from ..journal import counting_bar
from ..sources import SampleSource
from .learning import default_like, with_task
from .measuring import TaskRow, measure_task, to_accuracies
from .trainer import PackConfig, PackTrainer

__all__ = ["AddedTask", "Samples", "add_task", "room_samples"]


@dataclass(frozen=True)
class Samples:
    """What to train and what to judge on; `task` says what their labels mean."""

    task: TaskSpec
    trained: SampleSource
    held: SampleSource


@dataclass(frozen=True)
class AddedTask:
    """What was made: the pack, the task that it began from, and how good it is (one row per configuration)."""

    pack: PackReport
    task: TaskSpec
    like: str
    rows: list[TaskRow]
    losses: list[float]
    train_seconds: float
    seconds: float


def add_task(
    bundle: Path,
    samples: Samples,
    out: Path,
    *,
    config: PackConfig | None = None,
    like: str | None = None,
    grid: bool = False,
    progress: bool = False,
) -> AddedTask:
    """Train one more task beside a frozen bundle, measure it through the runtime, and write it as a pack.

    Args:
        bundle: its folder; nothing in it changes.
        like: the task of the bundle to begin from; by default one of the same kind.
        grid: measure every (encoder width, top_k, decoder width).
        progress: show progress on stderr.

    Raises:
        BundleError: no usable bundle.
        ConfigError: a task that exists, settings that cannot work.
        TargetExistsError: `out` exists.
        TrainingError, DataError: samples that cannot be used, or a training that failed.
    """
    started, config = time.monotonic(), config or PackConfig()
    check_pack_target(out)
    base, spec = Bundle.open(bundle), samples.task
    if spec.name in base.manifest.task_names:
        raise ConfigError(f"there is a task '{spec.name}' already; this bundle has {base.manifest.task_names}")
    if not TASK_NAME.fullmatch(spec.name):
        raise ConfigError(f"a task's name is a letter, then at most 63 letters, digits, _ and -; got '{spec.name}'")
    torch.manual_seed(config.seed)
    known, metadata = model_from_bundle(base, base.manifest.sizes[0])
    head = HeadConfig(spec.name, spec.kind, spec.channels)
    chosen = default_like(known, head) if like is None else like
    model = with_task(known, head, chosen)
    losses = PackTrainer(model, head, samples.trained, base.manifest.preprocessing, config).run(progress)
    trained_s = time.monotonic() - started
    rows: list[TaskRow] = []

    def measure(pack: Pack) -> tuple[Accuracy, ...]:
        with counting_bar("measure", len(samples.held), progress) as advance:
            extended = extend(base, [pack])
            rows.extend(measure_task(extended, spec, samples.held, samples.trained, grid=grid, advance=advance))
        return to_accuracies(spec.name, rows, str(samples.held), base.manifest.sizes[0])

    provenance = {
        "trained_by": "slimpath add-task",
        "data": str(samples.trained),
        "began_from": chosen,
        "minutes": round(trained_s / 60, 2),
        "training": config.to_json(),
    }
    report = export_pack(
        model,
        base,
        out,
        spec=spec,
        licence=str(metadata.get("licence", "unknown")),
        provenance=provenance,
        measure=measure,
    )
    return AddedTask(report, spec, chosen, rows, losses, trained_s, time.monotonic() - started)


def room_samples(
    name: str, size_hw: tuple[int, int], *, rooms: int = 600, held: int = 100, samples_per_pixel: int = 1
) -> Samples:
    """Rooms labelled for a new task; those to judge on are the first that `slimpath eval` uses.

    Raises:
        ConfigError: SynthRooms cannot label such a task, or too few rooms.
    """
    from ..eval_rooms import FIRST_EVALUATION_SEED
    from .rooms import FIRST_TRAINING_SEED, NewRooms, room_task

    task = room_task(name)
    if rooms < 2 or held < 1:
        raise ConfigError(f"at least 2 rooms to train on and 1 to judge on are needed, got {rooms} and {held}")
    return Samples(
        task.spec,
        NewRooms(task, FIRST_TRAINING_SEED, rooms, size_hw, samples_per_pixel=samples_per_pixel),
        NewRooms(task, FIRST_EVALUATION_SEED, held, size_hw, samples_per_pixel=4),
    )


def with_room_views(config: PackConfig, name: str) -> PackConfig:
    """The settings with the views that a room task allows (heights do not scale with a crop)."""
    from .rooms import room_task

    return replace(config, augment=room_task(name).augment)
