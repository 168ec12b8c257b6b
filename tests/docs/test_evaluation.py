"""docs/evaluation.md is about the weights that are bundled, in the metrics that the code has."""

from __future__ import annotations

from pathlib import Path

import slimpath
from slimpath.runtime import Bundle, bundled_path
from slimpath.training.metrics import metric_for

PAGE = Path(slimpath.__file__).parent / "docs" / "evaluation.md"
REDO = "run: slimpath eval --scenes 500 --docs docs"


def rows_below(heading: str) -> list[list[str]]:
    """Cells of the first table after a heading, without its head."""
    lines = PAGE.read_text(encoding="utf-8").partition(heading)[2].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def test_page_is_about_the_bundled_weights():
    manifest = Bundle.open(bundled_path()).manifest
    text = " ".join(PAGE.read_text(encoding="utf-8").split())  # lines break where they may
    assert f"weights SHA-256 `{manifest.weights.sha256[:16]}...`" in text, REDO
    assert PAGE.with_suffix(".png").stat().st_size > 10_000


def test_page_has_every_task_at_every_width_by_its_metric():
    manifest = Bundle.open(bundled_path()).manifest
    metrics = [metric_for(spec.name, spec.channels, spec.classes) for spec in manifest.tasks]
    expected = [
        [spec.name, f"{metric.name} {'↑' if metric.higher_is_better else '↓'}", f"{width:g}"]
        for spec, metric in zip(manifest.tasks, metrics, strict=True)
        for width in sorted(manifest.widths)
    ]
    assert [row[:3] for row in rows_below("# How good")] == expected, REDO
