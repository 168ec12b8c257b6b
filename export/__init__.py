"""A network becomes a bundle, or one stand-alone ONNX file, checked on the way. Needs torch, onnx and onnxscript."""

from .bundle import export_bundle, export_model
from .coverage import Calibration
from .errors import ExportError, GraphBuildError, ParityError, TargetExistsError
from .report import ExportReport, Progress
from .standalone import export_standalone

__all__ = [
    "Calibration",
    "ExportError",
    "ExportReport",
    "GraphBuildError",
    "ParityError",
    "Progress",
    "TargetExistsError",
    "export_bundle",
    "export_model",
    "export_standalone",
]
