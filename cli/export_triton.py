"""`slimpath export --to triton`: a bundle or a checkpoint as a model repository of NVIDIA's Triton Inference Server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .common import parse_numbers
from .errors import CliError, InputError
from .output import print_json, progress_bar

if TYPE_CHECKING:
    from ..export.triton import TritonReport

Progress = Callable[[str, int, int], None]


def export_to_triton(
    source: Path,
    out: Path | None,
    *,
    name: str | None,
    tasks: str | None,
    widths: str | None,
    other_options: bool,
    check: bool,
    json: bool,
) -> None:
    """Write the repository and say what is in it.

    Args:
        source: a bundle's folder or a checkpoint's file.
        other_options: whether any other option of `slimpath export` was given.

    Raises:
        InputError: no such source, or no --out. CliError: options that a repository does not have.
    """
    if out is None:
        raise InputError("where to write is missing", hint="add --out PATH")
    if not source.exists():
        raise InputError(f"{source}: there is no such bundle or checkpoint")
    if other_options:
        raise CliError(
            "--to triton takes --name, --tasks, --widths and --no-check alone",
            hint="export a bundle with the other options first, then that bundle --to triton",
        )
    from ..export.triton import export_triton

    with progress_bar("exporting", None, shown=not json) as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.update(bar.task_ids[0], description=what, completed=done, total=total)

        report = export_triton(
            source,
            out,
            name=name,
            tasks=[task.strip() for task in tasks.split(",")] if tasks else None,
            widths=parse_numbers(widths, "--widths", 0, 1) if widths else None,
            check=check,
            progress=progress,
        )
    _print(report, json)


def _print(report: TritonReport, json: bool) -> None:
    if json:
        models = {model.name: {"width": model.width, "worst_error": model.worst_error} for model in report.onnx_models}
        print_json(
            {
                "path": str(report.path),
                "bytes": report.size_bytes,
                "weights_bytes": report.weights_bytes,
                "python_model": report.python_model,
                "onnx_models": models,
            }
        )
        return
    print(f"{report.python_model}: any tasks, any budget; Triton's Python needs slimpath")
    for model in report.onnx_models:
        compared = "" if model.worst_error is None else f", largest difference {model.worst_error:.1e}"
        print(f"{model.name}: ONNX, width {model.width:g}{compared}")
    print(f"{report.path}: {report.size_bytes / 1e6:.2f} MB, of which {report.weights_bytes / 1e6:.2f} MB are weights")
