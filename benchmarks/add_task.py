"""A task pack for the bundled model: how good the new task is, what it weighs, and that nothing else changed.

    OMP_NUM_THREADS=1 python benchmarks/add_task.py --write

Trains a pack with a fixed seed on rooms that the model has not seen, measures it on held-out rooms against the better
of two answers that ignore the picture. Compares every old task with and without the pack, bit by bit, alone and beside
the new one. Adds and removes the pack while threads ask. `--write` puts the table into docs/packs.md.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from method import machine, table

from slimpath.runtime import Engine, TaskError, bundled_path
from slimpath.runtime.request import Request
from slimpath.training.packs.run import AddedTask, add_task, room_samples, with_room_views
from slimpath.training.packs.trainer import PackConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "packs.md"
_MARKS = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
CHANGES = 50  # times that the pack is added and removed while threads ask


@dataclass(frozen=True)
class Comparison:
    """How many arrays of old tasks were compared with and without the pack, and how many were equal to the last bit."""

    compared: int
    equal: int

    def __str__(self) -> str:
        return f"{self.equal} of {self.compared}"


def main() -> None:
    """Run everything, print the tables, and keep them if asked to."""
    options = parse_options()
    size_hw = (224, 224)
    config = with_room_views(PackConfig(steps=options.steps, batch=options.batch, seed=options.seed), options.task)
    samples = room_samples(options.task, size_hw, rooms=options.rooms, held=options.held)
    with tempfile.TemporaryDirectory(prefix="slimpath-packs-") as folder:
        out = Path(folder) / options.task
        started_s = time.process_time()
        added = add_task(bundled_path(), samples, out, config=config, grid=options.grid, progress=True)
        processor_s = time.process_time() - started_s
        pictures = [samples.held[number]["image"] for number in range(min(3, options.held))]
        alone = compare(out, pictures, [])
        beside = compare(out, pictures, [options.task])
        live = ask_while_it_changes(out, pictures[0], options.task)
    text = describe(options, added, processor_s, alone, beside, live)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_MARKS.sub(lambda found: f"{found[1]}{text}{found[2]}", page), encoding="utf-8")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="layout", help="layout or height")
    parser.add_argument("--rooms", type=int, default=120)
    parser.add_argument("--held", type=int, default=50)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", action="store_true", help="measure every configuration")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/packs.md")
    return parser.parse_args()


def compare(pack: Path, pictures: list[np.ndarray], beside: list[str]) -> Comparison:
    """Every old task at every width and top_k, in both tiers, with the pack and without; `beside` runs in the same
    batch."""
    compared = equal = 0
    for tier in ("mapped", "packed"):
        with Engine.load(threads=1, tier=tier) as engine:
            old = list(engine.tasks)
            budgets = [f"width={width:g},top_k={k}" for width in engine.bundle.manifest.widths for k in (1, 4)]
            plans = {budget: engine.plan(old, budget) for budget in budgets}
            before = {budget: [engine(picture, old, plans[budget]) for picture in pictures] for budget in budgets}
            engine.add_pack(pack)
            for budget in budgets:
                plan = engine.plan([*old, *beside], budget)
                for picture, former in zip(pictures, before[budget], strict=True):
                    (found,) = engine.run_batch([Request(picture, None, plan)])
                    same = [np.array_equal(former[task], found[task]) for task in old]
                    compared, equal = compared + len(same), equal + sum(same)
    return Comparison(compared, equal)


def ask_while_it_changes(pack: Path, picture: np.ndarray, task: str) -> dict[str, int]:
    """Two threads ask for an old and for the new task while the pack comes and goes."""
    counts = {"answered": 0, "unknown": 0, "wrong": 0}
    with Engine.load(threads=1, tier="mapped") as engine:
        budget = "width=0.25,top_k=1"
        expected = {"depth": engine(picture, "depth", budget)["depth"]}
        engine.add_pack(pack)
        expected[task] = engine(picture, task, budget)[task]
        stop, lock = threading.Event(), threading.Lock()

        def ask(name: str) -> None:
            while not stop.is_set():
                try:
                    right = np.array_equal(engine(picture, name, budget)[name], expected[name])
                except TaskError:
                    outcome = "unknown" if name == task else "wrong"
                    time.sleep(0.01)
                else:
                    outcome = "answered" if right else "wrong"
                with lock:
                    counts[outcome] += 1

        threads = [threading.Thread(target=ask, args=(name,)) for name in expected]
        for thread in threads:
            thread.start()
        for _ in range(CHANGES):
            time.sleep(0.1)
            engine.remove_pack(task)
            time.sleep(0.05)
            engine.add_pack(pack)
        stop.set()
        for thread in threads:
            thread.join()
    return counts


def describe(
    options: argparse.Namespace,
    added: AddedTask,
    processor_s: float,
    alone: Comparison,
    beside: Comparison,
    live: dict[str, int],
) -> str:
    """The tables in Markdown."""
    given = " ".join(
        f"--{name} {getattr(options, name)}" for name in ("task", "rooms", "held", "steps", "batch", "seed")
    )
    parameters, here = added.pack.parameters, machine()
    rows = [
        [
            f"{row.encoder_width:g}",
            str(row.top_k),
            f"{row.accuracy.value:.3f} ({row.accuracy.low:.3f} to {row.accuracy.high:.3f})",
            f"{row.constant:.3f}",
            f"{row.pixel_mean:.3f}",
            f"{100 * row.gain.value:+.0f} % ({100 * row.gain.low:+.0f} to {100 * row.gain.high:+.0f})",
        ]
        for row in added.rows
        if row.decoder_width == row.encoder_width
    ]
    metric = added.rows[0].metric
    head = ["width", "top_k", f"{added.task.name}: {metric} (95 %)", "constant", "mean picture", "gain over the better"]
    facts = [
        ["router and adapters", f"{parameters.in_encoder} ({100 * parameters.in_encoder / parameters.base:.2f} %)"],
        ["head", f"{parameters.head} ({100 * parameters.head / parameters.base:.2f} %)"],
        ["together", f"{parameters.total} ({100 * parameters.total / parameters.base:.2f} %) of {parameters.base}"],
        ["folder", f"{added.pack.size_bytes / 1e6:.2f} MB"],
        ["largest difference from the network", f"{added.pack.worst_error:.1e}"],
        ["rendering, training and measuring", f"{processor_s / 60:.1f} min of processor time"],
        ["old tasks alone, arrays equal to the last bit", str(alone)],
        ["old tasks beside the new one in one batch", str(beside)],
        [
            f"asked while the pack came and went {CHANGES} times",
            f"{live['answered']} right, {live['unknown']} told that the task is not there, {live['wrong']} wrong",
        ],
    ]
    lines = [
        f"`OMP_NUM_THREADS=1 python benchmarks/add_task.py {given}`",
        "",
        f"{here['processor']}, of which one; {here['versions']}. Began from the task `{added.like}`.",
        "",
        table(head, rows),
        table(["what", "figure"], facts),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
