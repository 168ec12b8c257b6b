"""What float16 and int8 cost in accuracy: the bundled model's graphs for GPUs by the task metrics, on rendered rooms.

Every precision of the cheapest and the dearest encoder, one image with all tasks a run, in plain ONNX Runtime on the
CPU: it computes float16 in float32 where it has no kernel, and rounds where the graph says so. A GPU sums in another
order; what is seen here is what the graphs themselves cost. Scenes are those of `slimpath eval`, that nothing was
trained on; int8 is calibrated on others. Intervals are paired: the same resampled scenes for both precisions.

A precision passes if no task's metric is worse than in float32 by more than WORSE of it (exit code 1 otherwise).

    python benchmarks/gpu_precision.py
    python benchmarks/gpu_precision.py --scenes 40 --cache FOLDER     (rendered scenes are kept in FOLDER)

Keeps its tables in docs/measured/gpu_precision.json and writes them into docs/gpu.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gpu_page import keep_precision

from slimpath.cli.calibration import load_calibration
from slimpath.export.gpu import add_gpu_graphs, check
from slimpath.export.gpu.trace import Job
from slimpath.export.reload import model_from_bundle
from slimpath.models import MultiTaskModel
from slimpath.runtime import Bundle
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.bundles.gpu_spec import GPU_PRECISIONS, GpuSpec
from slimpath.runtime.imaging.postprocess import finish
from slimpath.runtime.imaging.preprocess import preprocess
from slimpath.runtime.tasks import TaskKind
from slimpath.training.bootstrap import Bootstrap, Interval
from slimpath.training.eval_rooms import FIRST_EVALUATION_SEED, RoomRange, open_rooms
from slimpath.training.metrics import Metric, metric_for

#: By how much of its value in float32 a metric may be worse.
WORSE = {"fp16": 0.005, "int8": 0.05}
SAMPLES_PER_PIXEL = 4
_GROUP = 4  # scenes in memory at once
Sums = dict[str, list[np.ndarray]]  # by task, an entry per scene


def exported(bundle: Bundle, out: Path, configurations: list[tuple[float, int]]) -> Bundle:
    """The bundle with graphs in every precision, checked as every export checks them."""
    add_gpu_graphs(
        bundle,
        out,
        precisions=GPU_PRECISIONS,
        configurations=configurations,
        batches=[(1, len(bundle.manifest.task_names))],
        calibration=load_calibration(None),
        progress=lambda what, done, count: print(f"\rexport {done}/{count} {what:60.60}", end="", file=sys.stderr),
    )
    return Bundle.open(out)


class Graphs:
    """An encoder of one configuration and precision with its heads."""

    def __init__(self, bundle: Bundle, model: MultiTaskModel, width: float, top_k: int, precision: str) -> None:
        manifest, spec = bundle.manifest, _gpu(bundle)
        self._model, size, rows = model, manifest.sizes[0], len(manifest.task_names)
        self._kinds: dict[str, TaskKind] = {task.name: task.kind for task in manifest.tasks}
        self._job = Job(size, width, top_k, None, 1, rows)
        encoder = spec.graph("encoder", size, width, precision=precision, top_k=top_k, rows=rows)
        assert encoder is not None
        self._encoder = check.onnxruntime_run(str(bundle.path / encoder.file))
        self._heads = {}
        for task in manifest.task_names:
            found = [g for g in spec.graphs if (g.task, g.precision, g.rows) == (task, precision, 1)]
            nearest = min(found, key=lambda graph: (abs(graph.width - width), -graph.width))
            self._heads[task] = check.onnxruntime_run(str(bundle.path / nearest.file))

    def answers(self, planes_P3HW: np.ndarray) -> dict[str, list[np.ndarray]]:
        """As a `Result` holds them, by task, an entry per picture."""
        raw = check.graph_answers(self._model, check.Pictures(planes_P3HW), self._job, self._encoder, self._heads)
        return {task: [finish(self._kinds[task], row) for row in rows] for task, rows in raw.items()}


def measure(bundle: Bundle, graphs: dict[str, Graphs], metrics: dict[str, Metric], rooms: Any) -> dict[str, Sums]:
    """Sums of every metric, by precision."""
    sums: dict[str, Sums] = {precision: defaultdict(list) for precision in graphs}
    for samples in _groups(rooms):
        size, preprocessing = bundle.manifest.sizes[0], bundle.manifest.preprocessing
        planes = np.stack([preprocess(sample["image"], size, preprocessing)[0] for sample in samples])
        for precision, its in graphs.items():
            for task, answers in its.answers(planes).items():
                truths = [np.asarray(sample[task]) for sample in samples]
                sums[precision][task] += map(metrics[task].sums, answers, truths)
    return sums


def rows_of(sums: dict[str, Sums], metrics: dict[str, Metric]) -> tuple[list[list[str]], bool]:
    """A row per task, and whether every bound is kept."""
    bootstrap, rows, kept = Bootstrap(len(next(iter(sums["fp32"].values())))), [], True
    for task, metric in metrics.items():
        values = {precision: np.stack(of[task]) for precision, of in sums.items()}
        full = bootstrap.interval(metric, values["fp32"]).value
        cells = [f"{task}, {metric.name}{'' if metric.higher_is_better else ' (lower is better)'}", f"{full:.4f}"]
        for precision, worst in WORSE.items():
            value = bootstrap.interval(metric, values[precision]).value
            better = _relative(bootstrap.difference(metric, values[precision], values["fp32"]), full)
            passed = better.value >= -worst
            kept &= passed
            cells.append(f"{value:.4f}: {_percent(better)}{'' if passed else ', worse than allowed'}")
        rows.append(cells)
    return rows, kept


def agreement_section(spec: GpuSpec) -> dict[str, Any]:
    """What the export itself compared: the answers with the network's in float32, the worst of the encoders."""
    rows = []
    for task, measure in dict.fromkeys((one.task, one.measure) for one in spec.agreements):
        cells = [task, measure]
        for precision in WORSE:
            mine = [one for one in spec.agreements if (one.task, one.precision) == (task, precision)]
            worst = (max if mine[0].at_most else min)(one.value or 0.0 for one in mine)
            cells.append(f"{worst:.2g}" if mine[0].at_most else f"{worst:.4f}")
            cells.append(f"{mine[0].bound:g}")
        rows.append(cells)
    head = ["task", "measure", *(cell for one in WORSE for cell in (one, f"{one} allowed"))]
    return {"title": "Answers beside those of the network in fp32, three rendered rooms", "head": head, "rows": rows}


def _relative(difference: Interval, full: float) -> Interval:
    return Interval(difference.value / full, difference.low / full, difference.high / full)


def _percent(better: Interval) -> str:
    return f"{100 * better.value:+.2f} % ({100 * better.low:+.2f} to {100 * better.high:+.2f})"


def _groups(rooms: Any) -> Iterator[list[Any]]:
    for first in range(0, len(rooms), _GROUP):
        print(f"\rscene {first} of {len(rooms)}" + 60 * " ", end="", file=sys.stderr)
        yield [rooms[number] for number in range(first, min(first + _GROUP, len(rooms)))]
    print(file=sys.stderr)


def _gpu(bundle: Bundle) -> GpuSpec:
    assert bundle.manifest.gpu is not None
    return bundle.manifest.gpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--cache", type=Path, help="keep rendered scenes there")
    arguments = parser.parse_args()
    bundle = Bundle.open(bundled_path())
    manifest, size = bundle.manifest, bundle.manifest.sizes[0]
    most = manifest.encoder.top_k
    configurations = [(min(manifest.widths), 1), (max(manifest.widths), most)]
    metrics = {task.name: metric_for(task.name, task.channels, task.classes) for task in manifest.tasks}
    scenes = RoomRange(FIRST_EVALUATION_SEED, arguments.scenes, size, SAMPLES_PER_PIXEL)
    sections, all_kept = [], True
    with tempfile.TemporaryDirectory(prefix="slimpath-precision-") as folder:
        made = exported(bundle, Path(folder) / "gpu", configurations)
        model, _ = model_from_bundle(bundle, size)
        sections.append(agreement_section(_gpu(made)))
        with open_rooms(scenes, arguments.cache, workers=2, progress=True) as rooms:
            for width, top_k in configurations:
                graphs = {one: Graphs(made, model, width, top_k, one) for one in GPU_PRECISIONS}
                rows, kept = rows_of(measure(made, graphs, metrics, rooms), metrics)
                all_kept &= kept
                head = ["task, metric", "fp32", *(f"{one}: better (worse: -) by" for one in WORSE)]
                title = f"Metrics, encoder {width:g}:{top_k}"
                print(title, *rows, sep="\n", flush=True)
                sections.append({"title": title, "head": head, "rows": rows})
    allowed = ", ".join(f"{one} {100 * worst:g} %" for one, worst in WORSE.items())
    about = f"{arguments.scenes} scenes; 95 % intervals, paired; allowed to be worse: {allowed} of the value in fp32."
    command = f"python benchmarks/gpu_precision.py --scenes {arguments.scenes}"
    keep_precision({"command": command, "about": about, "kept": all_kept, "sections": sections})
    sys.exit(0 if all_kept else 1)


if __name__ == "__main__":
    main()
