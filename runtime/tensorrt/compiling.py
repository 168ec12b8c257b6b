"""All engines of a bundle, one build after the other, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from ..bundles.gpu_graphs import check_gpu_weights, gpu_spec
from ..errors import BackendError
from .building import Tell
from .engine_file import Header, engine_path, require_ours
from .fingerprint import take_fingerprint
from .worker import Event, Here, Job

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from ..bundles.gpu_spec import GpuGraphSpec

MIB = 1 << 20
_LOOK_S = 300.0  # to open the libraries; on a Jetson that has just started it takes half a minute

# (file, what is being done, steps done, steps in all)
Progress = Callable[[str, str, int, int], None]


class Built(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine: `state` is "built", "kept" (it was there already) or "failed", with the reason."""

    file: str
    state: str
    path: Path
    header: Header | None = None
    reason: str = ""


class CompileOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to compile. `memory_mb` is what the builder may use on the device, None for half of what is free;
    `timeout_s` bounds one build."""

    stripped: bool = False
    memory_mb: int | None = None
    optimization_level: int = 3
    force: bool = False
    threads: int = 1
    timeout_s: float = 3600.0


def choose_graphs(
    bundle: Bundle,
    *,
    precisions: Sequence[str] = (),
    tasks: Sequence[str] = (),
    widths: Sequence[float] = (),
) -> list[GpuGraphSpec]:
    """The GPU graphs of those precisions, tasks and encoder or decoder widths; encoders first. Empty means all.

    Raises:
        BundleError: the bundle has no GPU graphs.
        BackendError: none is left; the message lists what there is.
    """
    spec = gpu_spec(bundle)
    found = [
        graph
        for graph in spec.graphs
        if (not precisions or graph.precision in precisions)
        and (not tasks or graph.task is None or graph.task in tasks)
        and (not widths or graph.width in widths)
    ]
    if not found:
        known = sorted({graph.width for graph in spec.graphs})
        raise BackendError(
            "no GPU graph of the bundle is asked for",
            hint=f"it has the precisions {', '.join(spec.precisions)}, the tasks "
            f"{', '.join(bundle.manifest.task_names)}, and the widths {', '.join(f'{width:g}' for width in known)}",
        )
    return sorted(found, key=lambda graph: (graph.kind != "encoder", graph.file))


def compile_engines(
    bundle: Bundle,
    graphs: Sequence[GpuGraphSpec],
    options: CompileOptions,
    *,
    progress: Progress | None = None,
) -> list[Built]:
    """Build an engine of each graph that has none which may be loaded here.

    A build that fails does not stop the others. Nothing is kept of it.

    Args:
        progress: called from this thread.

    Raises:
        BackendError: TensorRT or CUDA is missing: nothing can be built.
        WeightsError: the weights for GPUs are damaged.
    """
    here = _look_around()
    check_gpu_weights(bundle)
    tell = progress or (lambda *_: None)
    results: list[Built] = []
    for spec in graphs:
        path = engine_path(bundle.digest, spec.file)
        known = None if options.force else _known(bundle, spec, path, here, options)
        if known is not None:
            results.append(Built(spec.file, "kept", path, known))
            continue
        tell(spec.file, "starting", 0, 0)
        try:
            _build(bundle, spec, options, tell)
            results.append(Built(spec.file, "built", path, _header(bundle, spec, path, here)))
        except BackendError as error:
            results.append(Built(spec.file, "failed", path, None, str(error)))
    return results


def _header(bundle: Bundle, spec: GpuGraphSpec, path: Path, here: Here) -> Header:
    fingerprint = take_fingerprint(here.facts, here.tensorrt, bundle=bundle.digest, graph_sha256=spec.sha256)
    return require_ours(path, fingerprint)


def _known(bundle: Bundle, spec: GpuGraphSpec, path: Path, here: Here, options: CompileOptions) -> Header | None:
    """The header of an engine that may be used as it is."""
    if not path.exists():
        return None
    try:
        header = _header(bundle, spec, path, here)
    except BackendError:  # of another device, or damaged: it is built again
        return None
    return header if header.stripped == options.stripped else None


def _look_around() -> Here:
    """Where builds run. Asked of a worker: CUDA takes hundreds of MB of a process that opens it.

    Raises:
        BackendError: TensorRT or CUDA is missing there.
    """
    here = _work(Job("", "", False, None, 0, 1), "TensorRT", _LOOK_S, lambda *_: None)
    if here is None:
        raise BackendError("the build process does not say where it runs")
    return here


def _build(bundle: Bundle, spec: GpuGraphSpec, options: CompileOptions, tell: Progress) -> None:
    """Build one engine.

    Raises:
        BackendError: as for `_work`.
    """
    memory_bytes = None if options.memory_mb is None else options.memory_mb * MIB
    job = Job(str(bundle.path), spec.file, options.stripped, memory_bytes, options.optimization_level, options.threads)
    _work(job, spec.file, options.timeout_s, lambda text, step, steps: tell(spec.file, text, step, steps))


def _work(job: Job, what: str, timeout_s: float, tell: Tell) -> Here | None:
    """Run a worker and pass on what it tells.

    Raises:
        BackendError: it failed, took too long, or died.
    """
    last: Event | None = None
    with tempfile.TemporaryFile() as printed:
        with _worker(job, printed, timeout_s) as (process, events):
            for event in events:
                last = event
                if event.kind == "progress":
                    tell(event.text, event.step, event.steps)
        if last is not None and last.kind == "failed":
            raise BackendError(last.text, hint=last.hint)
        if process.returncode or last is None or last.kind != "done":
            why = _death(process.returncode, timeout_s)
            raise BackendError(f"{what}: {why}{_last_words(printed)}", hint=_LESS)
    return last.here


@contextmanager
def _worker(
    job: Job, printed: IO[bytes], timeout_s: float
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[Event]]]:
    """A worker at its job, and what it says; it is gone afterwards, whatever happens here."""
    command = [sys.executable, "-m", f"{__package__}.worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed)
    alarm = threading.Timer(timeout_s, process.kill)
    alarm.daemon = True
    alarm.start()
    assert process.stdin is not None and process.stdout is not None
    try:
        with suppress(BrokenPipeError):  # it died at once: its exit code says how
            process.stdin.write(msgspec.json.encode(job))
            process.stdin.close()
        yield process, _events(process.stdout)
        process.wait()
    finally:
        alarm.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def _events(lines: IO[bytes]) -> Iterator[Event]:
    for line in lines:
        with suppress(msgspec.DecodeError):  # a line that was cut off by a crash
            yield msgspec.json.decode(line, type=Event)


def _death(code: int, timeout_s: float) -> str:
    """What an exit code says."""
    if code == -signal.SIGKILL:
        return f"the build was killed: memory ran out, or it took longer than {timeout_s:g} s"
    if code < 0:
        return f"the build crashed with {signal.Signals(-code).name}"
    return f"the build ended with exit code {code} and without an answer"


def _last_words(printed: IO[bytes]) -> str:
    printed.seek(0, os.SEEK_END)
    printed.seek(max(printed.tell() - 4096, 0))
    lines = [line.strip() for line in printed.read().decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""


_LESS = "close other programs, or give it less: --memory 1024"
