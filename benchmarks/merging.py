"""What each way of merging keeps of its fine-tunes: `python benchmarks/merging.py` writes the table in docs/merging.md.

For every seed: a base trained on all three tasks for a short while, a fine-tune of it for each task, all methods of
`slimpath merge` beside the plain average, and one network that goes on training on all tasks, which sees as many
pictures of each task as its fine-tune does. Measured at full width on rooms that nothing else has seen. `--quick` sees
that it works: few steps, nothing written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from merging_suite import (
    BATCH,
    CHOOSING,
    MERGING,
    SIZE_HW,
    TASKS,
    TESTING,
    TRAINING,
    Size,
    against,
    metrics,
    rooms,
    scores,
    seed_once,
    short,
    spread,
    trained,
)
from method import machine, table
from page import put_figures

from slimpath.export.describe import preprocessing
from slimpath.models import load_checkpoint
from slimpath.training.data import SampleSource
from slimpath.training.merging import Family, MergeConfig, Source, load_family, merge_family
from slimpath.training.merging.pictures import LabelledPictures
from slimpath.training.merging.vectors import cosines

ROOT = Path(__file__).resolve().parent.parent
PAGE, RAW = ROOT / "docs" / "merging.md", ROOT / "docs" / "merging.json"
SCALES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
Figures = dict[str, dict[str, float]]  # row of the table -> task -> value


def one_seed(size: Size, seed: int, cache: Path, work: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything that a seed gives: values of every row and task, and what the vectors look like."""
    training = rooms(cache, TRAINING, size.training)
    testing, choosing = rooms(cache, TESTING, size.testing), rooms(cache, CHOOSING, size.choosing)
    say("base")
    base = trained(size, training, work / "base", seed, TASKS)
    tuned = []
    for task in TASKS:
        say(f"fine-tune {task}")
        tuned.append(trained(size, training, work / task, seed, (task,), base))
    family = load_family(base, [Source(path) for path in tuned])
    found: Figures = {}
    found["single fine-tunes"] = {task: scores(family.member_of(task).model, testing, (task,))[task] for task in TASKS}
    say("all tasks together")
    joint = trained(size, training, work / "joint", seed, TASKS, base)
    found["trained together"] = scores(load_checkpoint(joint)[0], testing)
    chosen: dict[str, float] = {}
    for name, config in rows(family, choosing, size, seed, chosen):
        say(name)
        pictures = _pictures(family, cache, size) if config.learned else None
        found[name] = scores(merge_family(family, config, pictures).model, testing)
    angles = cosines(family.vectors())
    off = [short(float(angles[i, j])) for i in range(len(TASKS)) for j in range(i)]
    return {"values": found, "chosen": chosen, "cosines": off}


def rows(
    family: Family, choosing: SampleSource, size: Size, seed: int, chosen: dict[str, float]
) -> list[tuple[str, MergeConfig]]:
    """Every way of merging that the table has. Chosen scales are written into `chosen`."""
    singles = {task: scores(family.member_of(task).model, choosing, (task,))[task] for task in TASKS}

    def best(method: str) -> MergeConfig:
        configs = [MergeConfig(method, scale=scale) for scale in SCALES]
        gains = [against(scores(merge_family(family, config).model, choosing), singles) for config in configs]
        chosen[method] = SCALES[int(np.argmax(gains))]
        return configs[int(np.argmax(gains))]

    steps, images = size.learned_steps, size.learned_images
    learned = MergeConfig("adamerging", steps=steps, images=images, seed=seed)
    return [
        ("base's backbone", MergeConfig("task-arithmetic", scale=0.0)),
        ("average", MergeConfig("task-arithmetic", scale=1 / len(TASKS))),
        ("task-arithmetic, scale 0.3", MergeConfig("task-arithmetic")),
        ("task-arithmetic, chosen scale", best("task-arithmetic")),
        ("ties, scale 1", MergeConfig("ties")),
        ("ties, chosen scale", best("ties")),
        ("adamerging", learned),
        ("adamerging, entropy alone", replace(learned, regression="none")),
        ("adamerging --ties-first", replace(learned, ties_first=True)),
        ("atlas", replace(learned, method="atlas")),
        ("twin, static", MergeConfig("twin", exclusive="static")),
        ("twin, adapters of rank 8", MergeConfig("twin")),
    ]


def _pictures(family: Family, cache: Path, size: Size) -> LabelledPictures:
    source, spec = rooms(cache, MERGING, size.merging), preprocessing(family.members[0].metadata)
    return LabelledPictures(source, family.config.tasks, SIZE_HW, spec, f"rooms:{size.merging}")


def page_text(seeds: Sequence[dict[str, Any]], size: Size) -> str:
    """The table, means and standard deviations over the seeds, with what it was made from."""
    judges, lines = metrics(), []
    for name in seeds[0]["values"]:
        cells = [spread([seed["values"][name][task] for seed in seeds], ".3f") for task in TASKS]
        gains = [100 * against(seed["values"][name], seed["values"]["single fine-tunes"]) for seed in seeds]
        lines.append([name, *cells, spread(gains, "+.1f")])
    heads = [f"{task}, {judges[task].name} {'↑' if judges[task].higher_is_better else '↓'}" for task in TASKS]
    text = table(["", *heads, "against the fine-tunes, %"], lines)
    chosen = "; ".join(
        f"{method} " + ", ".join(f"{seed['chosen'][method]:g}" for seed in seeds) for method in seeds[0]["chosen"]
    )
    angles = [angle for seed in seeds for angle in seed["cosines"]]
    minutes = sum(seed["cpu_s"] for seed in seeds) / 60
    facts = "; ".join([f"{minutes:.0f} minutes of CPU time, {torch.get_num_threads()} thread(s)", *machine().values()])
    return (
        f"`python benchmarks/merging.py --seeds {len(seeds)}`, {time.strftime('%Y-%m-%d')}, {facts}.\n\n"
        f"Mean and standard deviation over {len(seeds)} seeds. `{size.model}` at {SIZE_HW[0]} x {SIZE_HW[1]}; base: "
        f"{size.base_steps} steps on all tasks; each fine-tune, and the one trained together: {size.tuned_steps} steps "
        f"from the base, {BATCH} pictures of every task a step; {size.training} rooms to train on, {size.merging} to "
        f"learn coefficients on ({size.learned_steps} steps of {size.learned_images} pictures), "
        f"{size.choosing} to choose scales on (of {SCALES[0]:g} to {SCALES[-1]:g}), {size.testing} to "
        f"measure on, all different. "
        f"The last column is the mean relative gain over the single fine-tunes (Delta_m, Vandenhende et al. 2021).\n\n"
        f"{text}\nChosen scales, seed by seed: {chosen}. Cosines between task vectors: {min(angles):.2f} to "
        f"{max(angles):.2f}.\n"
    )


def main() -> None:
    """Train, merge and measure everything; write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... so many")
    parser.add_argument("--cache", type=Path, default=None, help="folder of rooms and of seeds that are done")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, nothing written")
    arguments = parser.parse_args()
    size = Size(base_steps=6, tuned_steps=4, training=16, merging=4, choosing=2, testing=4, learned_steps=2)
    size = size if arguments.quick else Size()
    with tempfile.TemporaryDirectory(prefix="slimpath-merging-") as folder:
        cache = arguments.cache or Path(folder) / "cache"
        seeds = [done(size, seed, cache) for seed in range(1 if arguments.quick else arguments.seeds)]
    text = page_text(seeds, size)
    print(text)
    if arguments.quick:
        return
    put_figures(PAGE, Path(__file__).name, text)
    raw = {"machine": machine(), "size": asdict(size), "seeds": seeds}
    RAW.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def done(size: Size, seed: int, cache: Path) -> dict[str, Any]:
    """What a seed gives, measured once."""
    return seed_once(cache, "merging", size, seed, lambda work, say: one_seed(size, seed, cache, work, say))


if __name__ == "__main__":
    main()
