"""`slimpath export --target gpu` and `--lint`: graphs for GPUs, and what TensorRT would say of a graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from .calibration import load_calibration
from .common import BAD_INPUT, parse_numbers
from .errors import InputError
from .output import human_bytes, print_json

if TYPE_CHECKING:
    from ..export.gpu import GpuReport
    from ..export.report import ExportReport

Progress = Callable[[str, int, int], None]
LINTERS = {"tensorrt": ("10", "11"), "tensorrt-10": ("10",), "tensorrt-11": ("11",)}


class GpuOptions(NamedTuple):
    """What the command line says of graphs for GPUs, as it was typed."""

    precisions: str | None
    configurations: str | None
    batches: list[str] | None

    def check(self, wanted: bool) -> None:
        """Options for GPUs without graphs for them are a slip.

        Raises:
            InputError: there are some.
        """
        if not wanted and any(option is not None for option in self):
            raise InputError("--gpu-precision, --encoders and --batch are for graphs for GPUs", hint="add --target gpu")


def lint(path: Path, linter: str, json: bool) -> None:
    """Print what the linter finds in an .onnx file, or in the graphs for GPUs of a bundle; exit code 2 if anything.

    Raises:
        InputError: nothing there to look at, or no such linter.
    """
    from ..export.gpu import lint_files

    if linter not in LINTERS:
        raise InputError(f"--lint knows {', '.join(LINTERS)}, got {linter!r}")
    files = _graphs(path)
    findings = lint_files(files, LINTERS[linter])
    if json:
        print_json({"graphs": len(files), "findings": findings, "passed": not findings})
    else:
        for finding in findings:
            print(finding)
        print(f"{_count(len(files), 'graph')}, {_count(len(findings), 'refusal')} by {linter}")
    if findings:
        raise typer.Exit(BAD_INPUT)


def export_for_gpu(
    source: Path,
    out: Path,
    options: GpuOptions,
    export_plain: Callable[[Path], ExportReport],
    calibration: str | None,
    check: bool,
    progress: Progress,
) -> GpuReport:
    """A bundle with graphs for GPUs, from a bundle, or from a checkpoint by way of an ordinary one.

    Args:
        export_plain: writes the ordinary bundle of a checkpoint to a path.
        calibration: as it was typed; int8 takes its ranges from these pictures.
    """
    from ..export.gpu import add_gpu_graphs, check_free
    from ..runtime import Bundle

    check_free(out)
    chosen: dict[str, Any] = {
        "precisions": tuple(part.strip() for part in (options.precisions or "fp16").split(",")),
        "configurations": _configurations(options.configurations),
        "batches": [_batch(text) for text in options.batches] if options.batches else None,
    }
    if "int8" in chosen["precisions"]:
        chosen["calibration"] = load_calibration(calibration)
    if source.is_dir():
        return add_gpu_graphs(Bundle.open(source), out, check=check, progress=progress, **chosen)
    plain = out.with_name(f".{out.name}.plain.tmp")
    shutil.rmtree(plain, ignore_errors=True)
    try:
        export_plain(plain)
        return add_gpu_graphs(Bundle.open(plain), out, check=check, progress=progress, **chosen)
    finally:
        shutil.rmtree(plain, ignore_errors=True)


def print_gpu_outcome(report: GpuReport, json: bool) -> None:
    """What was written, and how near to the network it is; `slimpath inspect` shows more."""
    if json:
        print_json(report)
        return
    chosen = ", ".join(f"{width:g}:{top_k}" if top_k else f"{width:g}" for width, top_k in report.configurations)
    print(f"encoders {chosen}: {report.source}")
    compared = "not compared with the network"
    if report.worst_error is not None:
        compared = f"largest difference from the network in fp32 {report.worst_error:.1e}"
    size = human_bytes(report.weights_bytes)
    print(f"{report.path}: {_count(report.graphs, 'graph')} for GPUs, weights {size}, {compared}")


def _graphs(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder", hint="name an .onnx file or a bundle")
    found = sorted(path.glob("gpu-*.onnx"))
    if not found:
        raise InputError(
            f"{path}: has no graphs for GPUs",
            hint="make them by --target gpu, or name one .onnx file",
        )
    return found


def _configurations(text: str | None) -> list[tuple[float, int]] | None:
    """ "0.5:2,1:4" is (width, top-k); without experts "0.5,1"."""
    if text is None:
        return None
    found = []
    for part in text.split(","):
        width, colon, top_k = part.partition(":")
        if colon and not top_k.strip().isdigit():
            raise InputError(f"--encoders must be WIDTH:TOP_K, got {part!r}", hint="for example 0.25:1,1:4")
        found.append((parse_numbers(width, "--encoders", 0, 1)[0], int(top_k) if colon else 0))
    return found


def _batch(text: str) -> tuple[int, int]:
    images, cross, rows = text.lower().partition("x")
    if not images.isdigit() or (cross and not rows.isdigit()):
        raise InputError(f"--batch must be IMAGESxROWS, got {text!r}", hint="for example 1x5: one image, five tasks")
    return int(images), int(rows if cross else images)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
