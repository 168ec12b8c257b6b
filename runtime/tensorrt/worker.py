"""One build in a process of its own: `python -m slimpath.runtime.tensorrt.worker`, a job on stdin, events on stdout.

A builder takes gigabytes, does not give them all back, and may crash: none of that is to reach the process that serves.
When memory runs out the kernel ends this process first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import msgspec

from ..errors import BundleError, SlimpathError
from .cuda import DeviceFacts

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from ..bundles.gpu_spec import GpuGraphSpec
    from .building import Tell


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to build: a graph of a bundle, or "" to say only where the worker runs.

    `memory_bytes` is None for half of what is free on the device.
    """

    bundle: str
    file: str
    stripped: bool
    memory_bytes: int | None
    optimization_level: int
    threads: int


class Here(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the worker runs."""

    facts: DeviceFacts
    tensorrt: str


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the worker says, a JSON object a line: progress until it is done or has failed."""

    kind: Literal["progress", "done", "failed"]
    here: Here | None = None
    text: str = ""
    step: int = 0
    steps: int = 0
    hint: str = ""


def main() -> int:
    """Read a job, build, check, write the engine. 0 where it is there now."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the libraries print must not come between the events
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    here: Here | None = None
    try:
        if job.file:
            build(job, lambda text, step, steps: _tell(channel, Event("progress", None, text, step, steps)))
        else:
            here = look_around()
    except SlimpathError as error:
        _tell(channel, Event("failed", text=error.message, hint=error.hint))
        return 1
    except Exception as error:  # the other process can only be told
        _tell(channel, Event("failed", text=f"{type(error).__name__}: {error}"))
        return 1
    _tell(channel, Event("done", here))
    return 0


def look_around() -> Here:
    """The device and the library, asked here so that the process that waits need not open them.

    Raises:
        BackendError: TensorRT or CUDA is missing.
    """
    from .device import Device

    device = Device()
    return Here(device.cuda.facts, device.version)


def build(job: Job, tell: Tell) -> None:
    """Build an engine, check it, and only then write it.

    Raises:
        SlimpathError: the bundle is damaged, TensorRT refuses the graph, or the engine does not give its answers.
    """
    from ..backends.ort import OrtBackend
    from ..bundles.bundle import Bundle
    from ..bundles.gpu_graphs import read_gpu_graph
    from .building import BuildOptions, build_plan
    from .checking import check_engine, layer_types, require_precision
    from .device import Device
    from .engine import Engine
    from .engine_file import FORMAT, Header, engine_path, timing_cache_path, write_engine, write_private
    from .fingerprint import take_fingerprint

    bundle = Bundle.open(job.bundle)
    spec = find_spec(bundle, job.file)
    graph, where = read_gpu_graph(bundle, spec), bundle.path / spec.file
    device = Device()
    trt = device.trt
    fingerprint = take_fingerprint(device.cuda.facts, device.version, bundle=bundle.digest, graph_sha256=spec.sha256)
    limit = job.memory_bytes or device.cuda.free_memory() // 2
    options = BuildOptions(limit, job.stripped, job.optimization_level)
    timings = timing_cache_path(fingerprint)
    started = time.monotonic()
    plan, learnt = build_plan(trt, graph, where, options, device.log, timing_cache=_read_if_ours(timings), tell=tell)
    build_s = time.monotonic() - started
    write_private(timings, learnt)
    tell("checking", 0, 1)
    engine = Engine(device, plan, stripped=job.stripped, graph=graph, where=where)
    found = layer_types(trt, engine.library_engine)
    require_precision(spec, found)
    reference = OrtBackend(threads=job.threads)
    name = f"onnxruntime {reference.version}"
    checked = check_engine(bundle, spec, engine, reference.load(graph, bundle.path), name)
    checked = msgspec.structs.replace(checked, layer_types=found)
    engine.close()
    header = Header(
        format=FORMAT,
        file=spec.file,
        fingerprint=fingerprint,
        plan_bytes=len(plan),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        weight_bytes=spec.weight_bytes,
        stripped=job.stripped,
        build_s=round(build_s, 1),
        checked=checked,
    )
    write_engine(engine_path(bundle.digest, spec.file), header, plan)


def find_spec(bundle: Bundle, file: str) -> GpuGraphSpec:
    """The GPU graph of that file name.

    Raises:
        BundleError: the bundle has none, or not this one.
    """
    from ..bundles.gpu_graphs import gpu_spec

    for spec in gpu_spec(bundle).graphs:
        if spec.file == file:
            return spec
    raise BundleError(f"{bundle.path}: has no GPU graph {file!r}")


def _read_if_ours(path: Path) -> bytes:
    """The timing cache; empty where there is none, or another user could have written it."""
    from .engine_file import read_private

    with contextlib.suppress(SlimpathError):
        return read_private(path)
    return b""


_telling = threading.Lock()  # a builder reports its progress from several threads


def _tell(channel: IO[str], event: Event) -> None:
    with _telling:
        channel.write(msgspec.json.encode(event).decode() + "\n")
        channel.flush()


if __name__ == "__main__":
    raise SystemExit(main())
