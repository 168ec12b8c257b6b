"""The measured parts of docs/gpu.md, from what `gpu_graphs.py` and `gpu_precision.py` kept in docs/measured.

`python benchmarks/gpu_page.py` writes them anew without measuring anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from method import machine, table

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "measured"
PAGE = ROOT / "docs" / "gpu.md"
LINT, PRECISION = "gpu_graphs", "gpu_precision"
END = "<!-- end of measured -->"


def begin(part: str) -> str:
    """The mark before a part of the page."""
    return f"<!-- measured: benchmarks/{part}.py -->"


def kept(part: str) -> dict[str, Any]:
    """What a script stored; empty where it never ran."""
    path = MEASURED / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep_lint(preset: str, row: dict[str, Any]) -> None:
    """Store what was found of one preset, and write the page anew."""
    from slimpath.models import PRESETS

    MEASURED.mkdir(parents=True, exist_ok=True)
    with _alone(MEASURED):  # several may run, each with some of the presets
        presets = {**kept(LINT).get("presets", {}), preset: {**row, "date": time.strftime("%Y-%m-%d")}}
        _keep(LINT, {"presets": {name: presets[name] for name in PRESETS if name in presets}})


def keep_precision(figures: dict[str, Any]) -> None:
    """Store the accuracies per precision, and write the page anew."""
    _keep(PRECISION, {"date": time.strftime("%Y-%m-%d"), **figures})


def write_page() -> None:
    """docs/gpu.md with the kept figures between its marks."""
    _write(PAGE, page(PAGE.read_text(encoding="utf-8")))


def page(text: str) -> str:
    """The page's text with the kept figures between its marks.

    Raises:
        SystemExit: marks are missing.
    """
    for part, written in ((LINT, lint_text(kept(LINT))), (PRECISION, precision_text(kept(PRECISION)))):
        before, _, rest = text.partition(begin(part))
        _, mark, after = rest.partition(END)
        if not mark:
            raise SystemExit(f"{PAGE.name} has no {begin(part)} ... {END}")
        text = f"{before}{begin(part)}\n\n{written.strip()}\n\n{END}{after}"
    return text


def lint_text(found: dict[str, Any]) -> str:
    """The table of presets; presets in the order of the zoo's families and sizes."""
    if not found:
        return "Not run yet."
    rows = []
    for name, row in found["presets"].items():
        compared = f"{row['error']:.1e} of {row['allowed']:.1e}, {row['compared']}"
        nodes = " / ".join(str(count) for count in row["nodes"].values())
        short = f"{row['kinds'] - row['kinds_not_in_short']} of {row['kinds']}"
        rows.append(
            [f"`{name}`", str(row["graphs"]), nodes, str(len(row["operators"])), str(len(row["findings"])), short]
            + [compared]
        )
    head = ["preset", "graphs linted", "nodes of the largest encoder: fp32 / fp16 / int8", "operators", "refusals"]
    head += ["kinds of nodes that the shortened preset has, too", "fp32 encoders: largest error of what is allowed"]
    dates = sorted({row["date"] for row in found["presets"].values()})
    words = f"`python benchmarks/gpu_graphs.py`, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}."
    return f"{words}\n\n{table(head, rows)}"


def precision_text(found: dict[str, Any]) -> str:
    """The table of accuracies."""
    if not found:
        return "Not run yet."
    sections = [f"`{found['command']}`, {found['date']}. {'; '.join(found['machine'].values())}. {found['about']}"]
    for section in found["sections"]:
        sections.append(f"{section['title']}:\n\n{table(section['head'], section['rows'])}")
    return "\n".join(f"{section.strip()}\n" for section in sections)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Held by one process at a time."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _keep(part: str, document: dict[str, Any]) -> None:
    MEASURED.mkdir(parents=True, exist_ok=True)
    _write(MEASURED / f"{part}.json", json.dumps({**document, "machine": machine()}, indent=1) + "\n")
    write_page()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


if __name__ == "__main__":
    write_page()
