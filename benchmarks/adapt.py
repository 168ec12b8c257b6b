"""What narrow widths are worth before and after `slimpath adapt`: the table in docs/adapt.md.

    python benchmarks/adapt.py --seeds 3 --write

For every seed: a network trained at full width alone; its narrow widths cut out as they are, after its units were put
in order of importance (two measures), and after an adaptation without and with labels. Measured on rooms that nothing
else has seen. `--quick` sees that it works: few steps, nothing written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from merging_suite import BATCH, SIZE_HW, TASKS, TESTING, TRAINING, Size, metrics, rooms, seed_once, short, trained
from method import machine, table
from page import put_figures

from slimpath.export.describe import preprocessing
from slimpath.models import load_checkpoint, save_checkpoint
from slimpath.training.adapt.config import AdaptConfig
from slimpath.training.adapt.measuring import measured_sums
from slimpath.training.adapt.network import load_original
from slimpath.training.adapt.pictures import AdaptData
from slimpath.training.adapt.run import adapt
from slimpath.training.adapt.trainer import in_order
from slimpath.training.augment import AugmentConfig
from slimpath.training.placed import Subset

ROOT = Path(__file__).resolve().parent.parent
PAGE, RAW = ROOT / "docs" / "adapt.md", ROOT / "docs" / "measured" / "adapt.json"
CUT, FISHER, MAGNITUDE = "cut", "ordered by fisher, cut", "ordered by magnitude, cut"
ALONE, LABELLED = "adapted without labels", "adapted with labels"
Figures = dict[str, dict[str, dict[str, float]]]  # network -> width -> task -> value


@dataclass(frozen=True)
class Plan:
    """How much is trained and looked at."""

    suite: Size = field(default_factory=lambda: Size(base_steps=400, testing=64))
    adapting: AdaptConfig = field(
        default_factory=lambda: AdaptConfig(
            steps=200,
            images=8,
            lr=1e-3,
            calibration=64,
            precision="fp32",
            augment=AugmentConfig(letterbox=0, photometric=0),
        )
    )


def one_seed(plan: Plan, seed: int, cache: Path, work: Path, say: Callable[[str], None]) -> Figures:
    """The values of every network, width and task."""
    training, testing = rooms(cache, TRAINING, plan.suite.training), rooms(cache, TESTING, plan.suite.testing)
    say("training at full width")
    original = load_original(_full_width(trained(plan.suite, training, work / "base", seed, TASKS)))
    config, spec = replace(plan.adapting, seed=seed), preprocessing(original.metadata)
    networks = {CUT: original.model}
    for name, measure in ((FISHER, "fisher"), (MAGNITUDE, "magnitude")):
        say(name)
        networks[name] = in_order(original.model, replace(config, importance=measure), training, spec).eval()
    for name, labelled in ((ALONE, False), (LABELLED, True)):
        say(name)
        data = AdaptData("rooms", training, Subset(testing, range(4)), labelled)  # its own report is not looked at
        made = adapt(original, data, work / name.replace(" ", "-"), config, progress=False)
        assert made.checkpoint is not None
        networks[name] = load_checkpoint(made.checkpoint)[0]
    say("measuring")
    judges = metrics()
    sums = measured_sums(networks, testing, spec, config.widths, judges, labelled=True)
    found: Figures = {name: {f"{width:g}": {} for width in config.widths} for name in networks}
    for (name, task, width), sums_IS in sums.items():
        found[name][f"{width:g}"][task] = short(float(judges[task].value(sums_IS.sum(axis=0))))
    return found


def _full_width(checkpoint: Path) -> Path:
    """The training saw full width alone, so that is what the checkpoint offers."""
    model, metadata = load_checkpoint(checkpoint)
    model.config = model.encoder.config = replace(model.config, widths=(1.0,))
    return save_checkpoint(checkpoint.with_name("full.safetensors"), model, metadata)


def values(seeds: Sequence[dict[str, Any]], name: str, width: str, task: str) -> np.ndarray:
    """One figure, seed by seed."""
    return np.array([seed["values"][name][width][task] for seed in seeds])


def beaten(seeds: Sequence[dict[str, Any]], name: str, other: str, width: str, task: str) -> bool:
    """Whether it is better by more than the spread over seeds: the mean of the gains over their standard deviation.

    A seed's gain is between two networks that come from one original: how good that one is does not count as spread.
    """
    gains = values(seeds, name, width, task) - values(seeds, other, width, task)
    sign = 1 if metrics()[task].higher_is_better else -1
    return bool(sign * gains.mean() > gains.std(ddof=1))


def apart(seeds: Sequence[dict[str, Any]], name: str, other: str, width: str, task: str) -> bool:
    """The stricter question: whether the means lie further apart than both deviations together, as if the networks had
    nothing to do with each other."""
    mine, theirs = values(seeds, name, width, task), values(seeds, other, width, task)
    sign = 1 if metrics()[task].higher_is_better else -1
    return bool(sign * (mine.mean() - theirs.mean()) > mine.std(ddof=1) + theirs.std(ddof=1))


def verdicts(seeds: Sequence[dict[str, Any]]) -> str:
    """In how many cases each adaptation beats each cut by more than the spread, one line each."""
    widths = [width for width in seeds[0]["values"][CUT] if width != "1"]
    cases = [(width, task) for width in widths for task in TASKS]
    lines = []
    for name in (ALONE, LABELLED):
        for other in (CUT, FISHER, MAGNITUDE):
            lost = [f"{task} at {width}" for width, task in cases if not beaten(seeds, name, other, width, task)]
            but = f"; not for {', '.join(lost)}" if lost else ""
            strict = sum(apart(seeds, name, other, width, task) for width, task in cases)
            lines.append(
                f"- *{name}* against *{other}*: in {len(cases) - len(lost)} of {len(cases)} cases{but}. "
                f"As if unpaired: in {strict}."
            )
    return "\n".join(lines)


def page_text(seeds: Sequence[dict[str, Any]], plan: Plan) -> str:
    """The table, means and standard deviations over the seeds, with what it was made from."""
    judges, lines, size, config = metrics(), [], plan.suite, plan.adapting
    for width in seeds[0]["values"][CUT]:
        for name in seeds[0]["values"]:
            if width == "1" and name in (FISHER, MAGNITUDE):
                continue  # the same network: tests hold that
            label = "as trained" if width == "1" and name == CUT else name
            cells = [values(seeds, name, width, task) for task in TASKS]
            spread = [f"{cell.mean():.3f} ± {cell.std(ddof=1) if len(seeds) > 1 else 0:.3f}" for cell in cells]
            lines.append([width, label, *spread])
    heads = [f"{task}, {judges[task].name} {'↑' if judges[task].higher_is_better else '↓'}" for task in TASKS]
    minutes = sum(seed["cpu_s"] for seed in seeds) / 60
    facts = "; ".join([f"{minutes:.0f} minutes of CPU time, {torch.get_num_threads()} thread(s)", *machine().values()])
    text = (
        f"`python benchmarks/adapt.py --seeds {len(seeds)} --write`, {time.strftime('%Y-%m-%d')}, {facts}.\n\n"
        f"Mean and standard deviation over seeds 0 to {len(seeds) - 1}. `{size.model}` at {SIZE_HW[0]} x {SIZE_HW[1]}, "
        f"trained for {size.base_steps} steps at full width, {BATCH} pictures of every task a step; adapted for "
        f"{config.steps} steps of {config.images} pictures, learning rate {config.lr:g}, importance by fisher on "
        f"{config.calibration} pictures; {size.training} rooms to train on, {size.testing} others to measure on.\n\n"
        f"{table(['width', 'network', *heads], lines)}"
    )
    if len(seeds) > 1:
        text += (
            "\nBetter by more than the spread over seeds, that is: the mean gain over the other network made from the "
            "same original is larger than the standard deviation of these gains; over the narrow widths and all "
            "tasks. *As if unpaired*: the means lie further apart than both standard deviations of the table together."
            f"\n\n{verdicts(seeds)}\n"
        )
    return text


def done(plan: Plan, seed: int, cache: Path) -> dict[str, Any]:
    """What a seed gives, measured once."""
    return seed_once(cache, "adapt", plan, seed, lambda work, say: {"values": one_seed(plan, seed, cache, work, say)})


def main() -> None:
    """Train, adapt and measure everything; write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... so many")
    parser.add_argument("--cache", type=Path, default=None, help="folder of rooms and of seeds that are done")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, nothing written")
    parser.add_argument("--write", action="store_true", help="put the table into docs/adapt.md")
    arguments = parser.parse_args()
    plan = Plan()
    if arguments.quick:
        plan = Plan(Size(base_steps=6, training=16, testing=4), replace(plan.adapting, steps=3, calibration=4))
    with tempfile.TemporaryDirectory(prefix="slimpath-adapt-") as folder:
        cache = arguments.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        seeds = [done(plan, seed, cache) for seed in range(1 if arguments.quick else arguments.seeds)]
    text = page_text(seeds, plan)
    print(text)
    if arguments.write and not arguments.quick:
        put_figures(PAGE, Path(__file__).name, text)
        raw = {"machine": machine(), "plan": asdict(plan), "seeds": seeds}
        RAW.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
