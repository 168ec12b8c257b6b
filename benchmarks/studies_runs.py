"""The runs of `studies.py`: what each of them trains, and what is measured of it.

All see the same rooms in the same order; runs of one seed start alike where their networks are alike. Nothing was tuned
for any of them: the learning rate is that of `merging_suite.py`, the weights of the methods are 1.

Axes: I images, T tasks, L blocks with experts, E experts.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from merging_suite import SIZE_HW, TESTING, TRAINING, metrics, rooms, seed_once, short

from slimpath.export.coverage import watch_routers
from slimpath.export.describe import preprocessing
from slimpath.models import MultiTaskModel, load_checkpoint
from slimpath.models.flops import encoder_cost
from slimpath.training.adapt.measuring import measured_sums
from slimpath.training.augment import AugmentConfig
from slimpath.training.baselines import fit_baselines
from slimpath.training.config import DataConfig, MethodConfig, Stage, TrainConfig
from slimpath.training.data import SampleSource
from slimpath.training.run_train import source_classes
from slimpath.training.trainer import Trainer

#: Not edges: in as short a training their odsF stays below that of "an edge everywhere".
TASKS = ("semseg", "depth", "normals")
BASE, CI_KD, WIDEST, DENSE = "base", "CI-KD", "no sandwich", "dense"
SINGLES = {task: f"{task} alone" for task in TASKS}
BALANCING = {
    "uncertainty": MethodConfig(weighting="uncertainty"),
    "PCGrad": MethodConfig(aggregate="pcgrad"),
    "Rep-MTL": MethodConfig(rep_tsr=1.0, rep_csa=1.0),
}
#: Over `*_micro`: twice its tokens and decoders, and M3ViT's proportions, where the experts that a token visits cost
#: what the dense network has in their place (top-4 of hidden = dim; dense: 4 dim).
NETWORK = {
    "dim": 64,
    "experts": 8,
    "top_k": 4,
    "expert_hidden": 64,
    "decoder_channels": 16,
    "decoder_hidden": 32,
}
TOP_KS = (1, 2, 3, 4, 6, 8)
Values = dict[str, dict[str, float]]  # width or top_k -> task -> value


@dataclass(frozen=True)
class Plan:
    """How much is trained and looked at; `pictures` a step, each with all its labels."""

    seeds: int = 3
    steps: int = 400
    pictures: int = 8
    training: int = 1536
    testing: int = 128


@dataclass(frozen=True)
class Run:
    """One training and its measurement: how many rooms it learns from, and on how many others it is measured."""

    variant: str
    config: TrainConfig
    training: int
    testing: int
    network: Mapping[str, int] = field(default_factory=lambda: dict(NETWORK))


class SizedTrainer(Trainer):
    """A trainer whose network has other sizes than its preset."""

    def __init__(self, run: Run, source: SampleSource, out: Path) -> None:
        self.sizes = run.network
        super().__init__(run.config, source, source_classes(source), out)

    def build_network(self) -> MultiTaskModel:
        """The preset with these sizes, at random."""
        return MultiTaskModel(replace(super().build_network().config, **self.sizes))


def all_runs(plan: Plan) -> list[Run]:
    """Every run, seed by seed, and at last those with one seed: what an interrupted call leaves can be compared."""
    found = []
    for seed in range(plan.seeds):
        base = _config(plan, seed, TASKS)
        configs = {BASE: base} | {name: _config(plan, seed, (task,)) for task, name in SINGLES.items()}
        configs[CI_KD] = replace(base, methods=MethodConfig(ci_kd=1.0))
        configs[WIDEST] = replace(base, sandwich=False)
        configs[DENSE] = replace(base, model="vit_micro")
        found += [Run(name, config, plan.training, plan.testing) for name, config in configs.items()]
    first = found[0].config
    balanced = {name: replace(first, methods=methods) for name, methods in BALANCING.items()}
    return found + [Run(name, config, plan.training, plan.testing) for name, config in balanced.items()]


def _config(plan: Plan, seed: int, tasks: Sequence[str]) -> TrainConfig:
    """Every picture of a step has one row per task: a task sees as many labels alone as among the others."""
    return TrainConfig(
        model="m3vit_micro",
        tasks=tuple(tasks),
        stages=(Stage(SIZE_HW, plan.pictures * len(tasks), 1.0),),
        steps=plan.steps,
        data=DataConfig(rows_per_image=len(tasks)),
        augment=AugmentConfig(letterbox=0, photometric=0),
        lr=2e-3,
        warmup_steps=min(100, plan.steps // 10),
        ema_decay=0.99,
        precision="fp32",
        seed=seed,
        log_every=1_000_000,
        save_every=1_000_000,
    )


def done(run: Run, cache: Path) -> dict[str, Any]:
    """What a run gives, with its settings; one that an interrupted call had finished is read from `cache`."""
    return seed_once(cache, _name(run), run, run.config.seed, lambda work, say: measured(run, cache, work, say))


def found_so_far(runs: Sequence[Run], cache: Path) -> list[dict[str, Any]]:
    """The runs that `cache` has, without the seeds that lack one of theirs."""

    def not_done(work: Path, say: Callable[[str], None]) -> dict[str, Any]:
        raise LookupError

    found: dict[int, dict[str, Any]] = {}
    for number, run in enumerate(runs):
        with contextlib.suppress(LookupError):
            found[number] = seed_once(cache, _name(run), run, run.config.seed, not_done)
    halfway = {
        run.config.seed for number, run in enumerate(runs) if number not in found and run.variant not in BALANCING
    }
    return [run for run in found.values() if run["seed"] not in halfway]


def _name(run: Run) -> str:
    return "studies-" + run.variant.lower().replace(" ", "-")


def measured(run: Run, cache: Path, work: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, and measure at every width; the base with other top_k, too, and who uses its experts."""
    training, testing = rooms(cache, TRAINING, run.training), rooms(cache, TESTING, run.testing)
    say(f"{run.variant}: training")
    used = time.process_time()
    trainer = SizedTrainer(run, training, work)
    untrained = copy.deepcopy(trainer.model).eval()
    trainer.run(progress=False)
    training_s = round(time.process_time() - used)
    model, metadata = load_checkpoint(trainer.checkpoint_file)
    config = model.config
    say("measuring")
    found: dict[str, Any] = {
        "variant": run.variant,
        "seed": run.config.seed,
        "training_cpu_s": training_s,
        "encoder_mflops": round(encoder_cost(config).flops(1, 1, config.top_k) / 1e6, 3),
        "encoder_parameters": encoder_cost(config).parameters,
        "widths": {f"{width:g}": _values({"": model}, testing, metadata, width)[""] for width in config.widths},
        "settings": asdict(run.config),
        "network": dict(run.network),
    }
    if run.variant in (BASE, WIDEST):
        found["top_k"] = _values({f"{k}": at_top_k(model, k) for k in TOP_KS}, testing, metadata, 1.0)
    if run.variant == BASE:
        found["experts"] = _experts(untrained, model, testing, metadata)
    return found


def at_top_k(model: MultiTaskModel, top_k: int) -> MultiTaskModel:
    """A copy whose tokens visit so many experts, more than it was trained with if need be."""
    clone = copy.deepcopy(model)
    clone.config = clone.encoder.config = replace(model.config, top_k=top_k)
    return clone


def _values(
    networks: Mapping[str, MultiTaskModel], testing: SampleSource, metadata: dict[str, Any], width: float
) -> Values:
    """The metric of every task of every network."""
    judges = metrics(next(iter(networks.values())).config.task_names)
    sums = measured_sums(networks, testing, preprocessing(metadata), (width,), judges, labelled=True)
    found: Values = {name: {} for name in networks}
    for (name, task, _), sums_IS in sums.items():
        found[name][task] = short(float(judges[task].value(sums_IS.sum(axis=0))))
    return found


def _experts(
    untrained: MultiTaskModel, model: MultiTaskModel, testing: SampleSource, metadata: dict[str, Any]
) -> dict[str, dict[str, list[list[float]]]]:
    """Share of the router mass that each expert gets at full width, by task [L][E]: before and after training, the
    latter on two halves of the pictures, which tell how much of a difference is the pictures'."""
    spec = preprocessing(metadata)
    images = [np.asarray(testing[number]["image"]) for number in range(len(testing))]

    def shares(network: MultiTaskModel, pictures: Sequence[np.ndarray]) -> dict[str, list[list[float]]]:
        used = watch_routers(network, pictures, spec, sizes=[SIZE_HW], widths=[1.0])
        return {task: np.round(use.mass_SLE[0], 4).tolist() for task, use in used.items()}

    return {
        "untrained": shares(untrained, images),
        "even pictures": shares(model, images[::2]),
        "odd pictures": shares(model, images[1::2]),
    }


def trivial(plan: Plan, cache: Path) -> dict[str, float]:
    """What each metric gives the same answer for all pictures, fitted on those of the training."""
    training, testing = rooms(cache, TRAINING, plan.training), rooms(cache, TESTING, plan.testing)
    judges = metrics(TASKS)
    channels = {task: getattr(judge, "classes", 1) for task, judge in judges.items()}
    answers = fit_baselines(training, channels, SIZE_HW).constant
    found = {}
    for task, judge in judges.items():
        sums_IS = [judge.sums(answers[task], np.asarray(testing[number][task])) for number in range(len(testing))]
        found[task] = short(float(judge.value(np.sum(sums_IS, axis=0))))
    return found


def progress(number: int, runs: Sequence[Run]) -> None:
    """One line on stderr before a run."""
    run = runs[number]
    print(f"[{number + 1}/{len(runs)}] {run.variant}, seed {run.config.seed}", file=sys.stderr, flush=True)
