"""What `slimpath eval` reads from its options, and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from .errors import InputError
from .output import print_table

if TYPE_CHECKING:
    from ..training.eval_control import ControlRow
    from ..training.eval_data import FileData
    from ..training.eval_reference import DeltaReport
    from ..training.eval_report import EvalReport


class DocsWords(TypedDict):
    command: str
    bundled: bool


def read_dataset(text: str, split: str, fit_split: str, samples: int | None, at_network: bool) -> FileData:
    """The files that --dataset and its companions name.

    Raises:
        InputError: it is not LAYOUT=DIR.
    """
    from ..training.eval_data import FileData

    layout, equals, root = text.partition("=")
    if not (layout and equals and root):
        raise InputError(f"--dataset must be LAYOUT=DIR, got '{text}'", hint="for example nyud_mt=data/NYUD_MT")
    return FileData(layout, Path(root), split, fit_split, samples, at_network)


def docs_words(report: EvalReport, bundle: Path | None, docs: Path, files: FileData | None) -> DocsWords:
    """How a page of the docs quotes the command; of folders only the last part, as a page is for all machines."""
    from ..runtime import bundled_path

    bundled = bundle is None or bundle.resolve() == bundled_path().resolve()
    parts = ["slimpath eval"] if bundle is None or bundled else [f"slimpath eval {bundle.resolve().name}"]
    if files is None:
        parts += [f"--scenes {report.scenes}", *(["--grid"] if report.grid else [])]
        parts.append(f"--first-seed {report.first_seed}")
    else:
        parts += [f"--dataset {files.layout}={files.root.resolve().name} --split {files.split}"]
        parts += [f"--scenes {files.samples}"] if files.samples else []
        parts += ["--judge-at network"] if files.at_network else []
        parts += ["--grid"] if report.grid else []
    parts += [f"--at {text}" for text in report.at]
    return DocsWords(command=" ".join([*parts, f"--docs {docs.name}"]), bundled=bundled)


def print_report(report: EvalReport, delta: DeltaReport | None, controlled: Sequence[ControlRow]) -> None:
    """Tables, claims and what was left out."""
    _print_accuracies(report)
    if delta is not None:
        columns, lines = delta.table()
        print_table("delta_m against single-task models", columns, lines, numeric=(0, 1, 2, 3))
        if delta.left_out:
            print(f"without a reference, and left out of delta_m: {', '.join(delta.left_out)}")
    if controlled:
        from ..training.eval_control import control_table

        columns, lines = control_table(controlled)
        title = f"Control: what {controlled[0].mixtures} preferences reach; 0 is the trivial answer, 1 a perfect one"
        print_table(title, columns, lines, numeric=(0, 1, 2, 3, 4))
    for claim, holds in report.claims().items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
    for line in report.exceptions():
        print(f"     {line}")
    if report.skipped_tasks:
        print(f"not measured, as the data does not label them: {', '.join(report.skipped_tasks)}")
    print(f"{len(report.rows)} configurations measured in {report.seconds:.0f} s")


def _print_accuracies(report: EvalReport) -> None:
    columns, lines = report.table()
    by = "" if report.backend == "onnxruntime" else f", {report.backend}"
    size = f"{report.size_hw[0]}x{report.size_hw[1]}"
    title = f"{report.bundle}{by}, {size}: {report.source}; {report.scenes} pictures, 95 % intervals"
    numbers = ("width", "top_k", "decoder", "GFLOPs", "value", "trivial", "per-pixel mean", "all experts")
    print_table(title, columns, lines, numeric=[columns.index(name) for name in numbers if name in columns])
    print(f"trivial and per-pixel mean: fitted on {report.fitted_on}")
    columns, lines = report.precision_table()
    if lines:
        print_table("Other precisions against fp32, same scenes", columns, lines, numeric=(2, 4, 5, 6, 7))
