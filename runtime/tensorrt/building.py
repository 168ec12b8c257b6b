"""An ONNX graph -> a plan, with the native API of TensorRT 10 and 11.

Types are those of the graph (strong typing): TensorRT 11 knows nothing else, and 10 would otherwise choose them by
flags that 11 no longer has. So no precision flag is ever set, and TF32, which is on by default and has ten bits of
mantissa, is switched off: routers would choose other experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BackendError
from .library import major, reason
from .names import Builder, IBuilderConfig, ILogger, INetworkDefinition, OnnxParser, TrtModule

# (phase, steps done, steps in all)
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Args:
        memory_bytes: what the builder may use on the device: scratch memory of the engine's layers, and of trying
            tactics out.
        stripped: leave the weights out of the plan.
        optimization_level: 0 to 5; TensorRT's default is 3. Higher tries more tactics, for longer.
    """

    memory_bytes: int
    stripped: bool = False
    optimization_level: int = 3


def build_plan(
    trt: TrtModule,
    graph: bytes,
    where: Path,
    options: BuildOptions,
    log: ILogger,
    *,
    timing_cache: bytes = b"",
    tell: Tell | None = None,
) -> tuple[bytes, bytes]:
    """Build a plan.

    Args:
        graph: the bytes of the ONNX file; `where` it lies, since its weights lie beside it.
        timing_cache: what earlier builds on this device measured.
        tell: called with what is being done.

    Returns:
        The plan, and the timing cache as it is now.

    Raises:
        BackendError: the parser or the builder refuses the graph; the message is TensorRT's own.
    """
    try:
        builder: Builder = trt.Builder(log)
    except TypeError as error:  # pybind11's word for a null pointer
        raise BackendError(f"TensorRT cannot start a build: {reason(log)}", hint="is there a CUDA device?") from error
    network: INetworkDefinition = builder.create_network(_network_flags(trt))
    parser = _parse(trt, network, graph, where, log)
    config = _configure(trt, builder, options)
    cache = config.create_timing_cache(timing_cache)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)  # of another device or version: begin anew
    monitor = None if tell is None else make_monitor(trt, tell)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    del parser, monitor  # until here: the network points to weights that the parser holds
    if plan is None:
        raise BackendError(f"{where.name}: TensorRT cannot build this graph: {reason(log)}")
    kept = config.get_timing_cache()
    return bytes(plan), bytes(kept.serialize()) if kept is not None else timing_cache


def _network_flags(trt: TrtModule) -> int:
    """Strongly typed; in TensorRT 11 every network is, and the flag is deprecated."""
    if major(trt.__version__) >= 11:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(trt: TrtModule, network: INetworkDefinition, graph: bytes, where: Path, log: ILogger) -> OnnxParser:
    parser: OnnxParser = trt.OnnxParser(network, log)
    if not parser.parse(graph, str(where)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = [f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors]
        raise BackendError(
            f"{where.name}: TensorRT cannot read this graph: {'; '.join(told) or reason(log)}",
            hint="`slimpath export --lint tensorrt` says which nodes TensorRT does not have",
        )
    dynamic = [
        f"{tensor.name} {list(tensor.shape)}"
        for tensor in (network.get_input(index) for index in range(network.num_inputs))
        if min(tensor.shape, default=1) < 0
    ]
    if dynamic:
        raise BackendError(
            f"{where.name}: has inputs of open shapes: {', '.join(dynamic)}",
            hint="engines are built from graphs of `slimpath export --target gpu`, whose shapes are fixed",
        )
    return parser


def _configure(trt: TrtModule, builder: Builder, options: BuildOptions) -> IBuilderConfig:
    config: IBuilderConfig = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.memory_bytes)
    config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, options.memory_bytes)
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the types of layers cannot be checked afterwards
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.stripped:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)  # as fast as without refitting; the weights are hashed
    return config


def make_monitor(trt: TrtModule, tell: Tell) -> Any:
    """A progress monitor that tells of the outermost phase; the others nest in it and start over and over."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]  # a class of the library, known only here
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._steps[phase_name] = num_steps
                tell(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps:
                tell(phase_name, step + 1, self._steps[phase_name])
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self._steps:
                tell(phase_name, self._steps[phase_name], self._steps.pop(phase_name))

    return Monitor()
