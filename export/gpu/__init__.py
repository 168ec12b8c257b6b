"""GPU-ready graphs: every shape a number, stacked experts, one top-k each, precision written into the graph; and what
TensorRT would say of them. Needs torch, onnx and onnxscript, and no GPU."""

from .lint import Finding, lint_file, lint_files
from .write import GpuReport, add_gpu_graphs, check_free

__all__ = ["Finding", "GpuReport", "add_gpu_graphs", "check_free", "lint_file", "lint_files"]
