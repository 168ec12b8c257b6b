"""Sessions and inputs for benchmarks: the encoder and head graphs of a bundle, run without an engine around them.

Axes: I images, B rows.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimpath.runtime import Bundle
from slimpath.runtime.backends.base import Session
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.manifest import GraphSpec
from slimpath.runtime.running.adapters import Adapters
from slimpath.runtime.running.routing import Routers


def load(bundle: Bundle, kind: str, width: float, task: str | None = None, *, tier: str = "packed") -> Session:
    """A session of one graph at the bundle's first size."""
    graph = bundle.graph(kind, bundle.manifest.sizes[0], width, task)  # type: ignore[arg-type]
    return OrtBackend().load(bundle.graph_bytes(graph), bundle.path, tier=tier)  # type: ignore[arg-type]


def encoder_feeds(
    bundle: Bundle,
    tasks: list[str],
    *,
    copies: bool = False,
    top_k: int | None = None,
    graph: GraphSpec | None = None,
) -> dict[str, np.ndarray]:
    """One image with a row per task; with `copies` the image comes once per row, so no prefix is shared.

    Args:
        graph: the encoder's, where rows bring adapters: their size depends on its width.
    """
    manifest = bundle.manifest
    images = len(tasks) if copies else 1
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 3, *manifest.sizes[0]), dtype=np.float32).repeat(images, axis=0)
    index = np.arange(len(tasks)) if copies else np.zeros(len(tasks))
    feeds = {"image": image, "image_index": index.astype(np.int64)}
    if manifest.is_moe:
        feeds["top_k"] = np.full(len(tasks), top_k or manifest.encoder.top_k, np.int64)
        feeds["router"], feeds["router_bias"] = Routers(bundle).stack(tasks)
    if graph is not None and graph.adapter_rows:
        feeds["adapter"] = Adapters(bundle).stack(graph, tasks)
    return feeds


def runner(session: Session, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    return lambda: session.run(feeds)


def by_operator(bundle: Bundle, graph: GraphSpec, folder: Path, runs: int) -> dict[str, float]:
    """Milliseconds of an encoder's run by operator: the sum over nodes of each node's median, most first.

    It is ONNX Runtime's own profile, which adds some microseconds to every node.
    """
    import onnxruntime

    options = OrtBackend()._cpu_options(onnxruntime, bundle.path, "packed")
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session: Any = onnxruntime.InferenceSession(bundle.graph_bytes(graph), options, providers=["CPUExecutionProvider"])
    feeds = encoder_feeds(bundle, list(bundle.manifest.task_names[:1]))
    for _ in range(runs):
        session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["args"]["node_index"]].append(event["dur"] / 1e3)
    found: dict[str, float] = defaultdict(float)
    for (operator, _), samples in times.items():
        found[operator] += float(np.median(samples))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def random_bundle(preset: str, folder: Path | None = None, *, widths: Sequence[float] = (1.0,)) -> Bundle:
    """A bundle of a named model with random weights (speed does not depend on them), unchecked; two tasks.

    Args:
        folder: where it lies, or is exported to if there is nothing; None for a temporary one.
    """
    out = (folder or Path(tempfile.mkdtemp(prefix="slimpath-bench-"))) / preset
    if not out.exists():
        import torch

        from slimpath.export import export_model
        from slimpath.models import HeadConfig, build_preset

        torch.manual_seed(0)
        model = build_preset(preset, (HeadConfig("depth", "depth", 1), HeadConfig("edge", "probability", 1)))
        export_model(model, {}, out, widths=list(widths), check=False, name=preset)
    return Bundle.open(out)


def small_bundle(folder: Path) -> Bundle:
    """`m3vit_small` with random weights, at all its widths and with the tasks of the bundled model.

    Args:
        folder: where it lies, or is exported to (some minutes) if there is nothing.
    """
    if not folder.exists():
        import torch

        from slimpath.export import export_model
        from slimpath.models import HeadConfig, build_preset
        from slimpath.runtime.bundles.bundled import bundled_path

        torch.manual_seed(0)
        tasks = Bundle.open(bundled_path()).manifest.tasks
        model = build_preset("m3vit_small", tuple(HeadConfig(task.name, task.kind, task.channels) for task in tasks))
        export_model(model, {}, folder, check=False, name="m3vit_small")
    return Bundle.open(folder)


def photographs(count: int = 8) -> list[np.ndarray]:
    """uint8 RGB: those of scikit-image and the bundled room, then the same from left to right, as often as needed."""
    from slimpath.cli.demo import load_subjects

    found = [subject.image_HWC for subject in load_subjects()]
    found += [np.ascontiguousarray(image[:, ::-1]) for image in found]
    return [found[i % len(found)] for i in range(count)]
