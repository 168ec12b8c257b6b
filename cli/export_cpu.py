"""What `slimpath export` writes for the CPU: a bundle or one stand-alone file, and what it says of either."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .calibration import load_calibration
from .common import parse_numbers
from .output import print_json

if TYPE_CHECKING:
    from ..export import ExportReport

Progress = Callable[[str, int, int], None]


class LowPrecision(str, Enum):
    fp32 = "fp32"
    int8 = "int8"


class Experts(NamedTuple):
    """What the command line says of experts."""

    coverage: float | None
    calibration: str | None


def write_bundle(
    checkpoint: Path,
    out: Path,
    sizes: list[tuple[int, int]] | None,
    widths: list[float] | None,
    experts: Experts,
    precision: LowPrecision,
    check: bool,
    name: str | None,
    progress: Progress,
) -> ExportReport:
    from ..export import export_bundle

    coverage = 1.0
    if experts.coverage is not None:
        coverage = parse_numbers(str(experts.coverage), "--expert-coverage", 0, 1)[0]
    return export_bundle(
        checkpoint,
        out,
        sizes=sizes,
        widths=widths,
        check=check,
        name=name,
        calibration=None if experts == Experts(None, None) else load_calibration(experts.calibration),
        expert_coverage=coverage,
        int8=precision is LowPrecision.int8,
        progress=progress,
    )


def write_standalone(
    checkpoint: Path,
    out: Path,
    tasks: list[str] | None,
    width: float,
    top_k: int | None,
    size: tuple[int, int] | None,
    precision: LowPrecision,
    check: bool,
    progress: Progress,
) -> ExportReport:
    from ..export import export_standalone

    return export_standalone(
        checkpoint,
        out,
        tasks=tasks,
        width=width,
        top_k=top_k,
        size=size,
        int8=precision is LowPrecision.int8,
        check=check,
        progress=progress,
    )


def print_outcome(report: ExportReport, json: bool) -> None:
    if json:
        print_json(
            {
                "path": str(report.path),
                "bytes": report.size_bytes,
                "weights_bytes": report.weights_bytes,
                "worst_error": report.worst_error,
                "passed": report.passed,
                "graphs": report.graphs,
                "kept_experts": report.kept_experts,
            }
        )
        return
    worst = report.worst_error
    difference = (
        "not compared with the network" if worst is None else f"largest difference from the network {worst:.1e}"
    )
    for task, counts in report.kept_experts.items():
        print(f"{task} can reach {', '.join(map(str, counts))} experts of its blocks")
    print(f"{report.path}: {report.size_bytes / 1e6:.2f} MB, {difference}")
