"""The README's table of figures: accuracies from the bundled manifest, latencies from docs/measured/encoder.json.

`python benchmarks/readme_table.py` writes it between the two marks; `slimpath eval --write` and `make bench` measured
what is in it.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from page import kept, put_figures

from slimpath.runtime import Bundle
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.bundles.manifest import Accuracy, Manifest

ROOT = Path(__file__).resolve().parent.parent
WIDTHS_FIGURE = "Latency of each width against its FLOPs (one task, packed)"
_WORDS = {
    "mIoU": "{task} mIoU",
    "RMSE": "{task} RMSE, m",
    "mErr": "{task} error, degrees",
    "odsF": "{task} odsF",
    "maxF": "{task} maxF",
    "accuracy": "{task} accuracy",
}


def figures() -> str:
    """The table and the sentence under it, as Markdown."""
    manifest = Bundle.open(bundled_path()).manifest
    if not manifest.accuracies:
        raise SystemExit("the bundled model is unmeasured: run `slimpath eval --write` first")
    measured = kept("encoder")
    repeats_ms = next(part["figures"]["ms"] for part in measured["sections"] if part["title"] == WIDTHS_FIGURE)
    latency_ms = {name: statistics.median(values) for name, values in repeats_ms.items()}
    first = {accuracy.task: accuracy for accuracy in manifest.accuracies}
    tasks = [task for task in manifest.task_names if task in first]
    head = ["width", "encoder, ms", "GFLOPs, one task"]
    metrics = {task: first[task].metric for task in tasks}
    head += [_WORDS.get(metric, "{task} " + metric).format(task=task) for task, metric in metrics.items()]
    rows = [["trivial answer", "", "", *(f"{first[task].trivial:.3g}" for task in tasks)]]
    for width in reversed(manifest.widths):
        cells = [_cell(manifest, task, width) for task in tasks]
        rows.append([f"{width:g}", f"{latency_ms[f'{width:g}']:.1f}", f"{_gflops(manifest, width):.2f}", *cells])
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    samples, source = manifest.accuracies[0].samples, manifest.accuracies[0].source
    note = (
        f"\nAccuracy on {samples} rendered rooms that nothing was trained on ({source}); errors: lower is better. "
        f"Latency: {measured['machine']['processor']}, ONNX Runtime, fp32, {manifest.sizes[0]}. "
        "More in [docs/evaluation.md](docs/evaluation.md) and [docs/benchmarks.md](docs/benchmarks.md).\n"
    )
    return "\n".join(lines) + "\n" + note


def _cell(manifest: Manifest, task: str, width: float) -> str:
    top_k = manifest.encoder.top_k
    found: list[Accuracy] = [
        accuracy
        for accuracy in manifest.accuracies
        if (accuracy.task, accuracy.encoder_width, accuracy.decoder_width) == (task, width, width)
        and accuracy.top_k in (top_k, 0)
    ]
    return f"{found[0].value:.3g}" if found else "unmeasured"


def _gflops(manifest: Manifest, width: float) -> float:
    cost = next(graph.cost for graph in manifest.graphs if graph.kind == "encoder" and graph.width == width)
    return (cost.flops_image + cost.flops_row + manifest.encoder.top_k * cost.flops_row_per_expert) / 1e9


if __name__ == "__main__":
    put_figures(ROOT / "README.md", Path(__file__).name, figures())
