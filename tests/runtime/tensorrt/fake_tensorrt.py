"""What TensorRT's objects do, on a fake machine: a "plan" is the ONNX graph with its weights, an engine runs it with
ONNX Runtime on the bytes at the addresses that it was given.

Rules of the real library that code can break are kept: strongly typed networks in TensorRT 10, TF32 on by default,
plans of one version only, weights of stripped plans only after a refit, scratch memory as large as asked for, and a
first run before anything is recorded.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx

from slimpath.tests.runtime.tensorrt.fake_bindings import instance, make_module
from slimpath.tests.runtime.tensorrt.fake_engine import PLAN, Runtime, shape_of, with_weights
from slimpath.tests.runtime.tensorrt.fake_machine import Machine


class TensorrtFake:
    """The module `tensorrt` of one version.

    Args:
        machine: where it runs.
    """

    def __init__(self, machine: Machine, version: str) -> None:
        self.machine, self.version = machine, version
        self.refuses_nodes: set[str] = set()
        self.build_fails = ""
        self.on_build: Callable[[], object] = lambda: None
        self.layer_word = ""  # what the inspector calls the type of every layer; "" for the graph's
        self.noise = 0.0  # added to every output
        self.misses_weights = False
        world: Any = self
        behaviours = {
            "ILogger": lambda: None,
            "IProgressMonitor": lambda: None,
            "Builder": lambda logger: Builder(world, logger),
            "OnnxParser": lambda network, logger: Parser(world, network, logger),
            "Runtime": lambda logger: Runtime(world, logger),
            "Refitter": lambda engine, logger: Refitter(world, engine),
            "OnnxParserRefitter": lambda refitter, logger: ParserRefitter(refitter),
        }
        self.module: ModuleType = make_module("tensorrt", version, behaviours, machine.calls)
        self.classes: dict[str, Any] = self.module.fake_classes

    def make(self, name: str, fake: Any) -> Any:
        return instance(self.classes, name, fake)

    def error(self, logger: Any, text: str) -> None:
        logger.log(self.classes["ILogger"].ERROR, text)

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


class Builder:
    def __init__(self, world: TensorrtFake, logger: Any) -> None:
        if world.machine.no_device:
            world.error(logger, "CUDA initialization failure")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.world, self.logger = world, logger

    def create_network(self, flags: int = 0) -> Any:
        typed = self.world.classes["NetworkDefinitionCreationFlag"].STRONGLY_TYPED
        strong = self.world.major >= 11 or bool(flags & (1 << int(typed)))
        return self.world.make("INetworkDefinition", Network(self.world, strong))

    def create_builder_config(self) -> Any:
        return self.world.make("IBuilderConfig", Config(self.world))

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        world, settings = self.world, config.fake
        monitor = settings.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building Engine", None, 2)
            monitor.phase_start("Timing", "Building Engine", 5)
            assert monitor.step_complete("Timing", 0)
            monitor.phase_finish("Timing")
            assert monitor.step_complete("Building Engine", 0) and monitor.step_complete("Building Engine", 1)
            monitor.phase_finish("Building Engine")
        world.on_build()
        if world.build_fails:
            world.error(self.logger, world.build_fails)
            return None
        flags = {flag.name for flag in settings.flags}
        assert "STRIP_PLAN" not in flags or flags & {"REFIT", "REFIT_IDENTICAL"}
        assert network.fake.parser() is not None, "the parser is gone, and the weights with it"
        model = network.fake.model
        header = {
            "version": world.version,
            "strong": network.fake.strong,
            "tf32": "TF32" in flags,
            "stripped": "STRIP_PLAN" in flags,
            "detailed": getattr(settings.profiling_verbosity, "name", "") == "DETAILED",
        }
        whole = model if header["stripped"] else with_weights(model, network.fake.folder)
        settings.cache.fake.timings += b"t"
        plan = PLAN + json.dumps(header).encode() + b"\n" + whole.SerializeToString()
        return memoryview(plan)


class Network:
    """`parser` owns the weights: a network whose parser is gone points to nothing."""

    def __init__(self, world: TensorrtFake, strong: bool) -> None:
        self.world, self.strong = world, strong
        self.model: Any = None
        self.parser: Callable[[], Any] = lambda: None
        self.folder = Path()

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    def get_input(self, index: int) -> Any:
        value = self.model.graph.input[index]
        return self.world.make("ITensor", SimpleNamespace(name=value.name, shape=shape_of(value)))


class Config:
    def __init__(self, world: TensorrtFake) -> None:
        self.world = world
        self.flags = {world.classes["BuilderFlag"].TF32}
        self.pools: dict[str, int] = {}
        self.builder_optimization_level = 3
        self.profiling_verbosity: Any = None
        self.progress_monitor: Any = None
        self.cache: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.pools[pool.name] = pool_size

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return self.world.make("ITimingCache", Timings(bytes(serialized_timing_cache)))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.fake.timings.startswith(b"foreign") and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class Timings:
    def __init__(self, timings: bytes) -> None:
        self.timings = timings

    def serialize(self) -> memoryview:
        return memoryview(self.timings)


class Parser:
    def __init__(self, world: TensorrtFake, network: Any, logger: Any) -> None:
        self.world, self.network, self.errors = world, network.fake, []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        loaded = onnx.load_model_from_string(bytes(model))
        self.network.model, self.network.folder = loaded, Path(path or "").parent
        self.network.parser = weakref.ref(self)
        self.errors = [node for node in loaded.graph.node if node.op_type in self.world.refuses_nodes]
        return not self.errors

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        node = self.errors[index]
        told = SimpleNamespace(
            desc=lambda: "no importer registered", node_name=lambda: node.name, node_operator=lambda: node.op_type
        )
        return self.world.make("ParserError", told)


class Refitter:
    def __init__(self, world: TensorrtFake, engine: Any) -> None:
        self.world, self.engine, self.model = world, engine.fake, None

    def refit_cuda_engine(self) -> bool:
        if self.model is None:
            return False
        self.engine.model, self.engine.has_weights = self.model, True
        return True

    def get_missing_weights(self) -> list[str]:
        return ["block.0.up", "block.0.down"] if self.world.misses_weights else []


class ParserRefitter:
    num_errors = 0

    def __init__(self, refitter: Any) -> None:
        self.refitter = refitter.fake

    def refit_from_bytes(self, model: bytes, path: str | None = None) -> bool:
        given = onnx.load_model_from_string(bytes(model))
        if [n.op_type for n in given.graph.node] != [n.op_type for n in self.refitter.engine.model.graph.node]:
            return False
        self.refitter.model = with_weights(given, Path(path or "").parent)
        return True

    def get_error(self, index: int) -> Any:
        raise IndexError(index)
