"""What `slimpath eval` reads from its options, and what it prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import typer

from .errors import InputError
from .output import print_table

if TYPE_CHECKING:
    from ..training.eval_control import ControlRow
    from ..training.eval_data import FileData
    from ..training.eval_reference import DeltaReport
    from ..training.eval_report import EvalReport


_UNQUOTED = ("pictures", "require", "write", "plot", "docs", "cache", "workers", "json", "debug")
"""Options that change no figure of a page."""


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


def given_options(context: typer.Context) -> dict[str, Any]:
    """What a command line says that decides a figure: option -> value, in the order of `--help`."""
    return {
        option.opts[0]: context.params[option.name]
        for option in context.command.params
        if option.name in context.params
        and option.name not in _UNQUOTED
        and option.param_type_name == "option"
        and context.params[option.name] != option.default
    }


def docs_words(report: EvalReport, bundle: Path | None, docs: Path, options: Mapping[str, Any]) -> DocsWords:
    """How a page of the docs quotes the command; of folders only the last part, as a page is for all machines.

    Args:
        options: `given_options`. What decides which pictures are judged is quoted whether it was given or not.
    """
    from ..runtime import bundled_path

    bundled = bundle is None or bundle.resolve() == bundled_path().resolve()
    if report.layout is None:
        judged = {"--scenes": report.scenes, "--first-seed": report.first_seed}
    else:
        layout, _, root = options["--dataset"].partition("=")
        judged = {"--dataset": f"{layout}={Path(root).resolve().name}", "--split": options.get("--split", "val")}
    parts = ["slimpath", "eval"] + ([] if bundle is None or bundled else [bundle.resolve().name])
    for option, value in {**judged, **options, **judged, "--docs": docs}.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            parts += [option] if one is True else [option, _argument(one)]
    return DocsWords(command=shlex.join(parts), bundled=bundled)


def _argument(value: Any) -> str:
    """A value as a command line has it."""
    if isinstance(value, Path):
        return value.name
    return str(value.value if isinstance(value, Enum) else value)


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
    columns, lines = report.kept_table()
    if lines:
        title = "What a width keeps of the full width's gain over trivial, mean over tasks, and of each task"
        print_table(title, columns, lines, numeric=range(len(columns)))
    columns, lines = report.precision_table()
    if lines:
        print_table("Other precisions against fp32, same scenes", columns, lines, numeric=(2, 4, 5, 6, 7))
