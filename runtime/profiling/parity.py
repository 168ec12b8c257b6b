"""Does a backend give the bundle's answers? Compared with ONNX Runtime in fp32 on the CPU, graph by graph.

Routers have ties: where the last visited and the first unvisited expert are nearly equally likely, a rounding
difference sends a token elsewhere. So images are searched, by seed, until the smallest log-probability gap at the cut,
over all tokens and MoE blocks, is at least MIN_GAP for every row. There, in fp32, the error must be at most
TOLERANCE * max(1, max |reference|).

Below fp32 rounding reaches every token, so no such bound can hold. There the answers of whole tasks are compared
(`agreement.py`), on a rendered room and not on noise; what it costs in accuracy, `slimpath eval --backend` measures.

Axes: I images, B rows, N tokens, E experts, L MoE blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from ..backends.base import Backend, Session, offered_encoders
from ..backends.ort import OrtBackend
from ..bundles.bundle import Bundle
from ..bundles.graph_spec import FULL_PRECISION, GraphSpec
from ..bundles.manifest_parts import Parity
from ..bundles.onnx_edit import routing_as_outputs
from ..errors import BackendError
from . import agreement
from .agreement import Agreement
from .parity_cases import Case, clear_case, head_feeds, room_feeds, room_rows, take_rows, visited_experts

TOLERANCE = 1e-4

# "widest" and "ends" (widest and narrowest) look at the first input size, "all" at every graph of the bundle.
Scope = Literal["widest", "ends", "all"]
Progress = Callable[[str, int, int], None]


class BackendParity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the comparison found.

    Args:
        reference: what it was compared with.
        graphs: file -> result, in fp32; empty below.
        tasks: "task width" -> agreement, below fp32; empty in fp32.
        routing_equal: share of (token, MoE block) decisions that are the reference's; None where the backend does not
            show them, or there are none. Only of encoders, and only for information.
    """

    backend: str
    version: str
    precision: str
    reference: str
    passed: bool
    graphs: dict[str, Parity] = {}
    tasks: dict[str, Agreement] = {}
    routing_equal: float | None = None

    @property
    def key(self) -> str:
        """Under which a profile keeps it."""
        return f"{self.backend}/{self.precision}"

    def failures(self) -> list[str]:
        """What did not pass, a line each."""
        lines = [
            f"{file}: error {result.max_abs_error:.2e}, allowed {_allowed(result):.2e}"
            for file, result in self.graphs.items()
            if not result.passed
        ]
        return lines + [f"{name}: {result}" for name, result in self.tasks.items() if not result.passed]

    def to_profile(self) -> dict[str, Any]:
        """Plain data for a profile's `parity`."""
        return {self.key: msgspec.to_builtins(self)}


def check_backend(
    bundle: Bundle,
    backend: Backend,
    *,
    reference: Backend | None = None,
    scope: Scope = "ends",
    graph_precision: str = FULL_PRECISION,
    progress: Progress | None = None,
) -> BackendParity:
    """Compare a backend with the reference.

    Args:
        reference: by default ONNX Runtime on the CPU with as many threads.
        graph_precision: of the bundle's graphs that the backend runs, where there are such; the reference runs fp32.
        progress: called with (graph's file, how many are done, of how many).

    Raises:
        BackendError: the backend cannot load or run a graph, or no image routes clearly.
    """
    chosen = reference or OrtBackend(threads=backend.threads or None)
    tell = progress or (lambda *_: None)
    pair = _Pair(bundle, chosen, backend, graph_precision)
    graphs = [graph for graph in _graphs(bundle, scope) if pair.has(graph)]
    precision = backend.precision if graph_precision == FULL_PRECISION else graph_precision
    if precision == FULL_PRECISION:
        results = _compare_graphs(pair, graphs, tell)
        passed, tasks = all(result.passed for result in results.values()), {}
    else:
        results, tasks = {}, _compare_tasks(pair, graphs, tell)
        passed = all(result.passed for result in tasks.values())
    return BackendParity(
        backend=backend.name,
        version=backend.version,
        precision=precision,
        reference=f"{chosen.name} {chosen.version}",
        passed=passed,
        graphs=results,
        tasks=tasks,
        routing_equal=_routing_equal(pair, graphs),
    )


class _Pair:
    """The reference's and the backend's sessions of a bundle, each loaded once."""

    def __init__(self, bundle: Bundle, reference: Backend, candidate: Backend, precision: str) -> None:
        self.bundle = bundle
        self._of_precision = {
            (g.kind, g.size_hw, g.width, g.task): g for g in bundle.manifest.graphs if g.precision == precision
        }
        self.reference, self.candidate = reference, candidate
        self._offered = offered_encoders(candidate, bundle)
        self._sessions: dict[tuple[bool, str, bool], Session] = {}

    def has(self, graph: GraphSpec) -> bool:
        """Whether the candidate has that graph, with any top_k."""
        return graph.kind == "head" or self._offered is None or graph.width in {width for width, _ in self._offered}

    def top_ks(self, encoder: GraphSpec) -> tuple[int, ...]:
        """Those that the candidate has of an encoder; empty for all."""
        return tuple(top_k for width, top_k in self._offered or () if width == encoder.width and top_k)

    def session(self, graph: GraphSpec, *, candidate: bool = False, routing: bool = False) -> Session:
        key = (candidate, graph.file, routing)
        if key not in self._sessions:
            data = self._data(graph, candidate)
            data = routing_as_outputs(data)[0] if routing else data
            backend = self.candidate if candidate else self.reference
            self._sessions[key] = backend.load(data, self.bundle.path)
        return self._sessions[key]

    def routing(self, graph: GraphSpec, *, candidate: bool = False) -> list[str]:
        return routing_as_outputs(self._data(graph, candidate))[1]

    def _data(self, graph: GraphSpec, candidate: bool) -> bytes:
        which = (graph.kind, graph.size_hw, graph.width, graph.task)
        return self.bundle.graph_bytes(self._of_precision.get(which, graph) if candidate else graph)

    def case(self, graph: GraphSpec) -> Case:
        session, top_ks = self.session(graph, routing=True), self.top_ks(graph)
        return clear_case(self.bundle, graph, session, self.routing(graph), top_ks)


def _graphs(bundle: Bundle, scope: Scope) -> list[GraphSpec]:
    """Encoders before heads, so that a head can be fed what an encoder of its size gave."""
    found = [graph for graph in bundle.manifest.graphs if graph.precision == FULL_PRECISION]
    if scope != "all":
        found = [graph for graph in found if graph.size_hw == bundle.manifest.sizes[0]]
        widths: dict[object, list[float]] = {}
        for graph in found:
            widths.setdefault((graph.kind, graph.task), []).append(graph.width)
        ends = (max,) if scope == "widest" else (max, min)
        found = [g for g in found if g.width in {end(widths[g.kind, g.task]) for end in ends}]
    return sorted(found, key=lambda graph: (graph.size_hw, graph.kind != "encoder", -graph.width))


def _compare_graphs(pair: _Pair, graphs: Sequence[GraphSpec], tell: Progress) -> dict[str, Parity]:
    results: dict[str, Parity] = {}
    tokens_of: dict[tuple[int, int], Case] = {}  # of the widest encoder of a size
    for done, graph in enumerate(graphs):
        tell(graph.file, done, len(graphs))
        if graph.kind == "encoder":
            case = pair.case(graph)
            tokens_of.setdefault(graph.size_hw, case)
            feeds, expected = case.feeds, case.outputs
        else:
            case = tokens_of[graph.size_hw]
            feeds = head_feeds(pair.session(graph), case, graph.task or "")
            expected = pair.session(graph).run(feeds)
        session = pair.session(graph, candidate=True)
        answers = session.run({name: feeds[name] for name in session.inputs})
        results[graph.file] = _parity(answers, expected, session.outputs, case)
    tell("done", len(graphs), len(graphs))
    return results


def _parity(
    answers: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], outputs: Sequence[str], case: Case
) -> Parity:
    worst, largest, passed = 0.0, 0.0, True
    for name in outputs:
        same_shape = answers[name].shape == expected[name].shape
        error = float(np.abs(answers[name] - expected[name]).max()) if same_shape else float("inf")
        scale = float(np.abs(expected[name]).max())
        worst, largest = max(worst, error), max(largest, scale)
        passed = passed and error <= TOLERANCE * max(1.0, scale)  # NaN compares false, so it fails
    worst = worst if np.isfinite(worst) else float(np.finfo(np.float32).max)  # JSON has no infinity
    return Parity(worst, largest, case.min_gap, case.seed, TOLERANCE, passed)


def _compare_tasks(pair: _Pair, graphs: Sequence[GraphSpec], tell: Progress) -> dict[str, Agreement]:
    """Every task's answer for the room, each head behind the encoder of its size that is nearest in width."""
    found: dict[str, Agreement] = {}
    heads = [graph for graph in graphs if graph.kind == "head"]
    specs = {task.name: task for task in pair.bundle.manifest.tasks}
    encoded: dict[tuple[str, bool], dict[str, np.ndarray]] = {}
    for done, head in enumerate(heads):
        tell(head.file, done, len(heads))
        encoders = [g for g in graphs if g.kind == "encoder" and g.size_hw == head.size_hw]
        encoder = min(encoders, key=lambda graph: abs(graph.width - head.width))
        task = head.task or ""
        answers = []
        for candidate in (False, True):
            if (encoder.file, candidate) not in encoded:
                encoded[encoder.file, candidate] = _encode_room(pair, encoder, candidate)
            session = pair.session(head, candidate=candidate)
            rows, images = slice(*room_rows(pair.bundle, task)), slice(None)
            feeds = take_rows(session, encoded[encoder.file, candidate], rows, images)
            answers.append(session.run(feeds)[task])
        size = "x".join(map(str, head.size_hw))
        found[f"{task} {size} width {head.width:g}"] = agreement.compare(specs[task].kind, answers[1], answers[0])
    tell("done", len(heads), len(heads))
    return found


def _encode_room(pair: _Pair, encoder: GraphSpec, candidate: bool) -> dict[str, np.ndarray]:
    session = pair.session(encoder, candidate=candidate)
    return session.run(room_feeds(pair.bundle, encoder, session, top_ks=pair.top_ks(encoder)))


def _routing_equal(pair: _Pair, graphs: Sequence[GraphSpec]) -> float | None:
    """Share of equal decisions of the room's tokens, over the encoders compared."""
    top_k = pair.bundle.manifest.encoder.top_k
    equal: list[np.ndarray] = []
    for graph in [graph for graph in graphs if graph.kind == "encoder" and pair.routing(graph)]:
        visited: list[list[np.ndarray]] = []
        for candidate in (False, True):
            try:
                session = pair.session(graph, candidate=candidate, routing=True)
            except BackendError:
                return None  # it runs only the bundle's own graphs
            outputs = session.run(room_feeds(pair.bundle, graph, session))
            visited.append([visited_experts(outputs[name], top_k) for name in pair.routing(graph, candidate=candidate)])
        equal += [(mine == theirs).all(axis=-1).ravel() for mine, theirs in zip(*visited, strict=True)]
    return float(np.mean(np.concatenate(equal))) if equal else None


def _allowed(result: Parity) -> float:
    return result.tolerance * max(1.0, result.max_abs_reference)
