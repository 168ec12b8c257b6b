"""When int8 is chosen, and that a backend is never given graphs that it cannot run."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from slimpath.runtime import Engine, Planner
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.graph_spec import GraphSpec
from slimpath.runtime.bundles.manifest import MANIFEST_FILE, encode_manifest
from slimpath.runtime.bundles.manifest_parts import Cost
from slimpath.runtime.errors import BudgetError
from slimpath.runtime.planning.costs import PartCost
from slimpath.runtime.profiling.calibrate_points import list_points
from slimpath.tests.runtime.plan_cases import accuracy, graph, make_manifest

ENCODERS = {0.5: Cost(100), 1.0: Cost(200)}
FP32, LOSSLESS, LOSSY = {0.5: 0.7, 1.0: 0.9}, {0.5: 0.699, 1.0: 0.899}, {0.5: 0.5, 1.0: 0.6}


@dataclass(frozen=True)
class Milliseconds:
    """A FLOP takes a tenth of a millisecond, in int8 `share` of it."""

    share: float
    name: str = "profile"
    headroom: float = 1.0

    @property
    def key(self) -> str:
        return f"made up {self.share}"

    def encoder(self, graph: GraphSpec, *, images: int, rows: int, top_k: int) -> PartCost:
        ms = 0.1 * graph.cost.flops_image
        return self._cost(graph.cost.flops_image, ms if graph.precision == "fp32" else ms * self.share)

    def head(self, graph: GraphSpec, *, rows: int) -> PartCost:
        return self._cost(graph.cost.flops_row, 1.0)

    def call(self, size_hw: tuple[int, int], tasks: Sequence[str]) -> PartCost:
        return self._cost(0, 1.0)

    def _cost(self, flops: int, ms: float) -> PartCost:
        return PartCost(flops, ms, 1.0, 1.0, None, True)


def planner(share: float, int8: dict[float, float]) -> Planner:
    points = [accuracy("depth", width, 0, 1.0, value) for width, value in FP32.items()]
    points += [accuracy("depth", width, 0, 1.0, value, precision="int8") for width, value in int8.items()]
    more = [graph(width, None, cost, precision="int8") for width, cost in ENCODERS.items()]
    return Planner(make_manifest(ENCODERS, {"depth": {1.0: 10}}, 0, points, more), Milliseconds(share))


@pytest.mark.parametrize(
    ("share", "int8", "budget", "chosen"),
    [
        (0.6, LOSSLESS, "15ms", ("int8", 1.0)),  # 14 ms in int8, 22 in fp32
        (0.6, LOSSLESS, "30ms", ("fp32", 1.0)),  # both fit, and fp32 measured better
        (0.6, LOSSLESS, "9ms", ("int8", 0.5)),
        (0.6, LOSSY, "15ms", ("fp32", 0.5)),  # the wide encoder in int8 is worse than the narrow one in fp32
        (1.2, LOSSLESS, "15ms", ("fp32", 0.5)),  # it costs more here than it gains
        (0.6, {}, "15ms", ("fp32", 0.5)),  # nobody measured what it loses
    ],
)
def test_int8_is_chosen_where_it_is_faster_and_good_enough(
    share: float, int8: dict[float, float], budget: str, chosen: tuple[str, float]
) -> None:
    plan = planner(share, int8).plan("depth", budget)
    assert (plan.precision, plan.encoder_width) == chosen and plan.budget_met


class Fp32Only(OrtBackend):
    name = "fp32-only"
    graph_precisions = ("fp32",)

    def load(self, graph: bytes, folder: Path, **options: object):  # type: ignore[no-untyped-def]
        assert graph != (folder / "encoder-int8.onnx").read_bytes()
        return super().load(graph, folder, **options)  # type: ignore[arg-type]


@pytest.fixture
def int8_bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """The tiny bundle, its widest encoder there once more under the name of int8."""
    manifest = Bundle.open(tiny_bundle).manifest
    encoder = next(g for g in manifest.graphs if (g.kind, g.width) == ("encoder", 1.0))
    folder = tmp_path / "int8"
    shutil.copytree(tiny_bundle, folder)
    # A byte more, an unknown field that protobuf skips: other bytes, the same graph.
    data = (folder / encoder.file).read_bytes() + bytes([0xF8, 0x06, 0x01])
    (folder / "encoder-int8.onnx").write_bytes(data)
    int8 = msgspec.structs.replace(
        encoder, file="encoder-int8.onnx", precision="int8", bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    new = msgspec.structs.replace(manifest, graphs=(*manifest.graphs, int8))
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(new))
    return Bundle.open(folder)


def test_a_backend_without_int8_is_never_given_int8_graphs(int8_bundle: Bundle) -> None:
    with Engine(int8_bundle, Fp32Only(threads=1)) as engine:
        plans = engine.warm()
        assert {plan.precision for plan in plans} == {"fp32"}
        assert {one.graph.precision for one in engine.sessions.loaded()} == {"fp32"}
        with pytest.raises(BudgetError, match="no graphs in int8 that can be used here; there are fp32"):
            engine.plan(budget="precision=int8")
        points = list_points(int8_bundle.manifest, engine.planner.precisions)
        assert {point.graph.precision for point in points} == {"fp32"}
        assert len(list_points(int8_bundle.manifest)) > len(points)


def test_onnx_runtime_on_the_cpu_runs_them(int8_bundle: Bundle) -> None:
    with Engine(int8_bundle, OrtBackend(threads=1)) as engine:
        assert {plan.precision for plan in engine.warm()} == {"fp32", "int8"}
        plan = engine.plan(budget="precision=int8,width=1")
        assert engine.plan(None, replace(plan)).precision == "int8"
