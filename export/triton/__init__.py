"""A bundle as a model repository of NVIDIA's Triton Inference Server: `slimpath export --to triton`.

`repository` lays it out, `config` writes each model's config.pbtxt, `onnx_models` makes an ONNX model of each width,
and `model` is the Python model that wraps slimpath's runtime: it is copied, never imported here.
"""

from .repository import TritonReport, export_triton

__all__ = ["TritonReport", "export_triton"]
