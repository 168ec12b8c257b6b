"""A model repository of the small random model: every task kind, one width as ONNX (tracing takes its time)."""

from pathlib import Path

import pytest

from slimpath.export.triton import TritonReport, export_triton
from slimpath.runtime import Bundle


@pytest.fixture(scope="session")
def report(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> TritonReport:
    out = tmp_path_factory.mktemp("triton") / "models"
    return export_triton(bundle.path, out, name="rooms", widths=[0.5])


@pytest.fixture(scope="session")
def repository(report: TritonReport) -> Path:
    return report.path
