"""Made-up manifests and prices, and a planner that looks at everything: what `Planner` is held against."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from slimpath.runtime.bundles.accuracy import Accuracy
from slimpath.runtime.bundles.encoder_spec import EncoderSpec, RouterSpec
from slimpath.runtime.bundles.graph_spec import GraphSpec
from slimpath.runtime.bundles.manifest import Manifest, check_manifest
from slimpath.runtime.bundles.manifest_parts import Cost, WeightsSpec
from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.runtime.planning.costs import PartCost
from slimpath.runtime.tasks import TaskSpec

SIZE = (32, 32)
LARGE = (64, 64)
SHA = "0" * 64
AXES = ("flops", "latency_ms", "memory_mb", "energy_mj")


def graph(
    width: float,
    task: str | None,
    cost: Cost,
    *,
    size_hw: tuple[int, int] = SIZE,
    precision: str = "fp32",
    weight_bytes: int = 1,
) -> GraphSpec:
    kind = "head" if task else "encoder"
    name = f"{kind}-{task}-{width}-{size_hw[0]}-{precision}"
    return GraphSpec(name, kind, size_hw, width, task, {}, 1, SHA, weight_bytes, 1, cost, precision=precision)


def make_manifest(
    encoders: Mapping[float, Cost],
    heads: Mapping[str, Mapping[float, int]],
    top_k: int,
    accuracies: Sequence[Accuracy] = (),
    more: Sequence[GraphSpec] = (),
    sizes: tuple[tuple[int, int], ...] = (SIZE,),
) -> Manifest:
    """Encoders by width and head FLOPs by task and width at the first size in fp32, and `more` graphs beside them."""
    graphs = [graph(width, None, cost) for width, cost in encoders.items()]
    graphs += [graph(w, task, Cost(0, flops)) for task, listed in heads.items() for w, flops in listed.items()]
    manifest = Manifest(
        schema_version=1, name="m", family="vit", slimpath_version="0", licence="x",
        tasks=tuple(TaskSpec(task, "depth", 1) for task in heads),
        preprocessing=Preprocessing("stretch", (0, 0, 0), (1, 1, 1)),
        encoder=EncoderSpec(8, 1, 1, 16, (0,) if top_k else (), 9 if top_k else 0, top_k,
                            routers={task: RouterSpec(("r",)) for task in heads} if top_k else {}),
        sizes=sizes, widths=tuple(sorted(encoders)), graphs=(*graphs, *more),
        weights=WeightsSpec("w", 100, SHA, SHA), accuracies=tuple(accuracies),
    )  # fmt: skip
    check_manifest(manifest)
    return manifest


def accuracy(task: str, width: float, top_k: int, decoder: float, value: float, **more: object) -> Accuracy:
    """Higher is better, the trivial answer has 0, the interval is unknown, unless said otherwise."""
    fields = {"metric": "m", "higher_is_better": True, "ci_low": None, "ci_high": None, "trivial": 0.0} | more
    return Accuracy(task, width, top_k, decoder, value=value, samples=1, source="made up", **fields)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MadeUpCosts:
    """Small whole numbers drawn from a seed: many ties, and no relation between one cost and another."""

    seed: int
    headroom: float = 1.0
    knows_energy: bool = True
    name: str = "profile"
    asked: list[str] = field(default_factory=list, compare=False)

    @property
    def key(self) -> str:
        return f"made up {self.seed}"

    def encoder(self, graph: GraphSpec, *, images: int, rows: int, top_k: int) -> PartCost:
        cost = graph.cost
        flops = images * cost.flops_image + rows * (cost.flops_row + top_k * cost.flops_row_per_expert)
        return self._draw(f"{graph.file} {images} {rows} {top_k}", flops)

    def head(self, graph: GraphSpec, *, rows: int) -> PartCost:
        return self._draw(f"{graph.file} {rows}", rows * graph.cost.flops_row)

    def call(self, size_hw: tuple[int, int], tasks: Sequence[str]) -> PartCost:
        return self._draw(f"call {size_hw} {len(tasks)}", 0)

    def _draw(self, what: str, flops: int) -> PartCost:
        self.asked.append(what)
        rng = random.Random(f"{self.seed} {what}")
        energy = rng.randint(0, 9)
        return PartCost(
            flops, rng.randint(0, 12), rng.randint(0, 20), rng.choice([None, *range(9)]),
            energy if self.knows_energy else None, True,
        )  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """One of everything that there is, with its costs by axis."""

    size_hw: tuple[int, int]
    precision: str
    width: float
    top_k: int
    decoders: tuple[float, ...]
    head_flops: tuple[int, ...]
    costs: dict[str, float]


def everything(manifest: Manifest, costs: MadeUpCosts, tasks: Sequence[str]) -> Iterator[Configuration]:
    """All configurations, straight from the definitions."""
    top_ks = range(1, manifest.encoder.top_k + 1) if manifest.is_moe else (0,)
    rows = len(tasks) if manifest.is_moe else 1
    for encoder, top_k in itertools.product([g for g in manifest.graphs if g.kind == "encoder"], top_ks):
        heads = [_heads(manifest, task, encoder) for task in tasks]
        for chosen in itertools.product(*heads):
            parts = [costs.call(encoder.size_hw, tasks), costs.encoder(encoder, images=1, rows=rows, top_k=top_k)]
            parts += [costs.head(head, rows=1) for head in chosen]
            spent = {
                "flops": sum(part.flops for part in parts),
                "latency_ms": sum(part.latency_ms or 0 for part in parts),
                "memory_mb": sum(part.weights_mb for part in parts) + max(part.activations_mb or 0 for part in parts),
                "energy_mj": sum(part.energy_mj or 0 for part in parts),
            }
            yield Configuration(
                encoder.size_hw, encoder.precision, encoder.width, top_k, tuple(head.width for head in chosen),
                tuple(head.cost.flops_row for head in chosen), spent,
            )  # fmt: skip


def _heads(manifest: Manifest, task: str, encoder: GraphSpec) -> list[GraphSpec]:
    """Those of the encoder's size, in its precision where there is one of that width."""
    here = [g for g in manifest.graphs if g.task == task and g.size_hw == encoder.size_hw]
    own = {g.width: g for g in here if g.precision == encoder.precision}
    return [own.get(g.width, g) for g in here if g.precision == "fp32"]
