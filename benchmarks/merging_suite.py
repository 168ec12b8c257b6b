"""A suite of tasks small enough to train on one core: a base, fine-tunes, and how good a network is at all of them.

Rooms are those of SynthRooms. Axes: I images, S sums of a metric.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slimpath.models import MultiTaskModel
from slimpath.models.heads import answer
from slimpath.training.augment import AugmentConfig
from slimpath.training.config import DataConfig, Stage, TrainConfig
from slimpath.training.data import SampleSource, normalise
from slimpath.training.metrics import Metric, metric_for
from slimpath.training.run_train import train
from slimpath.training.synthrooms import CLASSES, RENDERER_VERSION
from slimpath.training.synthrooms.cache import RoomShards, render_to_shards

TASKS = ("semseg", "depth", "edge")
SIZE_HW = (64, 64)
#: First seed of the rooms that each step sees; no room serves two of them.
TRAINING, MERGING, CHOOSING, TESTING = 0, 7_000_000, 9_000_000, 10_000_000
BATCH = 16  # pictures of each task a step


@dataclass(frozen=True)
class Size:
    """How much is trained and looked at; `base_steps` and `tuned_steps` are those of one training."""

    model: str = "m3vit_micro"
    base_steps: int = 600
    tuned_steps: int = 400
    training: int = 384
    merging: int = 64
    choosing: int = 48
    testing: int = 128
    learned_steps: int = 500
    learned_images: int = 8


def rooms(cache: Path, first_seed: int, count: int) -> SampleSource:
    """Rendered rooms, kept in a folder."""
    folder = cache / f"from{first_seed}-{count}"
    if not (folder / "config.json").exists():
        render_to_shards(folder, first_seed=first_seed, count=count, size_hw=SIZE_HW, samples_per_pixel=1, shard=16)
    return RoomShards(folder)


def trained(
    size: Size, source: SampleSource, out: Path, seed: int, tasks: Sequence[str], start: Path | None = None
) -> Path:
    """A training at full width: of the base on all tasks, or of one fine-tune."""
    steps = size.base_steps if start is None else size.tuned_steps
    config = TrainConfig(
        model=size.model,
        start=None if start is None else str(start),
        tasks=tuple(tasks),
        stages=(Stage(SIZE_HW, BATCH * len(tasks), 1.0),),
        steps=steps,
        data=DataConfig(rows_per_image=len(tasks)),
        augment=AugmentConfig(letterbox=0, photometric=0),
        lr=2e-3 if start is None else 1e-3,
        warmup_steps=min(100, steps // 10),
        ema_decay=0.99,
        sandwich=False,
        precision="fp32",
        seed=seed,
        log_every=1_000_000,
        save_every=1_000_000,
    )
    return train(config, out, progress=False, resume=False, source=source).checkpoint


def seed_once(
    cache: Path,
    name: str,
    settings: Any,
    seed: int,
    measure: Callable[[Path, Callable[[str], None]], dict[str, Any]],
) -> dict[str, Any]:
    """What a seed gives, and the CPU time it took, `cpu_s`; one that an interrupted run had finished is read.

    Args:
        name: of the benchmark, whose seeds lie in `cache` beside those of others.
        settings: a dataclass; with others it is another run.
        measure: (a folder for the time being, what is told what comes next) -> the figures.
    """
    key = hashlib.sha256(json.dumps([asdict(settings), seed, RENDERER_VERSION]).encode()).hexdigest()[:12]
    kept = cache / f"{name}-seed{seed}-{key}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    started, used = time.monotonic(), time.process_time()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] seed {seed}: {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix=f"slimpath-{name}-") as folder:
        found = measure(Path(folder), say)
    found["cpu_s"] = round(time.process_time() - used)
    temporary = kept.with_suffix(".tmp")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(kept)
    return found


def metrics(tasks: Sequence[str] = TASKS) -> dict[str, Metric]:
    """The metric of every task."""
    channels = {"semseg": len(CLASSES)}
    return {task: metric_for(task, channels.get(task, 1)) for task in tasks}


@torch.no_grad()
def scores(model: MultiTaskModel, source: SampleSource, tasks: Sequence[str] = TASKS) -> dict[str, float]:
    """The metric of each task at full width, over all rooms of a source."""
    judges, found = metrics(), {}
    sums: dict[str, list[np.ndarray]] = {task: [] for task in tasks}
    for first in range(0, len(source), 16):
        samples = [source[number] for number in range(first, min(first + 16, len(source)))]
        image_I3HW = normalise(np.stack([sample["image"] for sample in samples]))
        for task in tasks:
            raw = model(image_I3HW, [task] * len(samples)).raw[task]
            value = answer(model.config.task(task), raw)
            value = value.argmax(1) if task == "semseg" else value[:, 0]
            sums[task] += [
                judges[task].sums(one.numpy(), np.asarray(sample[task]))
                for one, sample in zip(value, samples, strict=True)
            ]
    for task in tasks:
        found[task] = float(judges[task].value(np.sum(sums[task], axis=0)))
    return found


def against(found: Mapping[str, float], singles: Mapping[str, float]) -> float:
    """Mean relative gain over the single fine-tunes, 0 = as good as they are (Vandenhende et al. 2021, Delta_m)."""
    judges = metrics()
    gains = [
        (1 if judges[task].higher_is_better else -1) * (found[task] - singles[task]) / singles[task] for task in found
    ]
    return float(np.mean(gains))


def short(value: float) -> float:
    """A figure as the raw file holds it."""
    return json.loads(f"{value:.5g}")


def spread(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation over seeds, in a format such as `.3f` or `+.1f`."""
    deviation = format(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, form.replace("+", ""))
    return f"{format(float(np.mean(values)), form)} ± {deviation}"
