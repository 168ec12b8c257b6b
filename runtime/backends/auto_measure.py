"""How fast backends are, for `--backend auto`: one picture with all tasks at full width, each in turn, if it passes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from ..errors import BackendError, SlimpathError
from .base import Backend, Session, offered_encoders

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from ..bundles.graph_spec import GraphSpec

MEASURE_S = 2.0  # for all candidates together, after loading
MAX_ROUNDS = 15

Progress = Callable[[str], None]


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one backend; `latency_ms` is None, and `why` says the reason, where it is out of question."""

    backend: str
    version: str
    latency_ms: float | None
    why: str = ""


def measure(
    bundle: Bundle,
    backends: Sequence[Backend],
    *,
    seconds: float = MEASURE_S,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Latency of one picture with all tasks at full width, each backend in turn; those that fail the gate have none.

    Args:
        seconds: after loading and the gate.
        clock: in seconds; tests bring their own.
    """
    tell = progress or (lambda _: None)
    runs: dict[str, Callable[[], None]] = {}
    failed: dict[str, str] = {}
    for backend in backends:
        tell(f"checking {backend.name}")
        try:
            _require_parity(bundle, backend)
            runs[backend.name] = _load_run(bundle, backend)
            runs[backend.name]()
        except SlimpathError as error:
            failed[backend.name] = str(error)
            runs.pop(backend.name, None)
    tell(f"timing {', '.join(runs)}")
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    end = clock() + seconds
    for round_ in range(MAX_ROUNDS):
        if round_ > 1 and clock() > end:
            break
        for name, run in runs.items():  # in turn: a noisy moment hits all of them
            started = clock()
            run()
            times_ms[name].append((clock() - started) * 1e3)
    # The first round still fills caches of shapes and memory.
    medians = {name: statistics.median(times[1:] or times) for name, times in times_ms.items()}
    return [Candidate(b.name, b.version, medians.get(b.name), failed.get(b.name, "")) for b in backends]


def _require_parity(bundle: Bundle, backend: Backend) -> None:
    if backend.name == "onnxruntime":
        return  # it is what the others are compared with
    from ..profiling.parity import check_backend

    result = check_backend(bundle, backend, scope="widest")
    if not result.passed:
        raise BackendError(f"fails the parity gate: {'; '.join(result.failures())}")


def _load_run(bundle: Bundle, backend: Backend) -> Callable[[], None]:
    """A function that takes one picture through the widest encoder and the widest head of every task."""
    from ..profiling.parity_cases import room_feeds, room_rows, take_rows

    encoder, heads = widest_graphs(bundle)
    session = backend.load(bundle.graph_bytes(encoder), bundle.path)
    offered = offered_encoders(backend, bundle)
    top_ks = [top_k for width, top_k in offered or () if width == encoder.width and top_k]
    feeds = room_feeds(bundle, encoder, session, images=1, top_ks=top_ks)
    loaded: dict[str, Session] = {
        task: backend.load(bundle.graph_bytes(head), bundle.path) for task, head in heads.items()
    }

    def run() -> None:
        encoded = session.run(feeds)
        for task, head in loaded.items():
            head.run(take_rows(head, encoded, slice(*room_rows(bundle, task, images=1)), slice(None)))

    return run


def widest_graphs(bundle: Bundle) -> tuple[GraphSpec, dict[str, GraphSpec]]:
    """At the first size, in fp32: the widest encoder, and the widest head of every task."""
    size_hw = bundle.manifest.sizes[0]
    widest: dict[str | None, GraphSpec] = {}
    for graph in bundle.manifest.graphs:
        if graph.size_hw == size_hw and graph.precision == "fp32":
            best = widest.get(graph.task)
            widest[graph.task] = graph if best is None or graph.width > best.width else best
    encoder = widest.pop(None)
    return encoder, {task: head for task, head in widest.items() if task is not None}
