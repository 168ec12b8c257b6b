"""Give a plan that was built without weights those of the bundle: plans of many widths then share one weights file."""

from __future__ import annotations

from pathlib import Path

from ..errors import BackendError
from .library import reason
from .names import ICudaEngine, ILogger, TrtModule


def refit(trt: TrtModule, engine: ICudaEngine, graph: bytes, where: Path, log: ILogger) -> None:
    """Put the weights of an ONNX graph into an engine that was stripped of them.

    Args:
        graph: the bytes of the file that the engine was built from, the very same: kREFIT_IDENTICAL was promised.
        where: its path; external data are looked for beside it.

    Raises:
        BackendError: the graph is not the engine's, or its weights cannot be read.
    """
    refitter = trt.Refitter(engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_bytes(graph, str(where)):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise BackendError(f"{where}: the engine cannot take these weights: {errors[0] if errors else reason(log)}")
    if not refitter.refit_cuda_engine():
        raise BackendError(f"{where}: the engine's weights cannot be set: {reason(log)}")
    missing = refitter.get_missing_weights()
    if missing:
        raise BackendError(f"{where}: the engine still lacks the weights {missing[0]!r} and {len(missing) - 1} more")
