"""One ONNX model a width: a whole configuration, preprocessing included, whose weights lie in the bundle's file.

Each model's folder holds a hard link to that file, because Triton's ONNX Runtime backend, like ONNX Runtime, looks for
external data beside the graph and follows neither `../` nor symbolic links. So the weights are on disk once, and in the
page cache once; each loaded model still packs a copy of its own in memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch

from ...models import MultiTaskModel
from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.safetensors_header import read_safetensors_header
from ...runtime.tasks import TaskSpec
from .. import slim
from ..bundle import check_widths
from ..errors import ExportError
from ..graphs import trace
from ..letterbox import Letterbox
from ..lowering import PORTABLE
from ..reload import model_from_bundle
from ..report import Progress
from ..standalone import CONTENT_BOX, Standalone, largest_difference
from ..weights import WeightsFile, stored_name
from .config import CONFIG_FILE, ENCODED, labels_file, onnx_model, to_text

MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class OnnxModel:
    """What was written: Triton's name of it, the width, bytes of its graph, the largest difference from the network."""

    name: str
    width: float
    graph_bytes: int
    worst_error: float | None


def write_onnx_models(
    bundle: Bundle,
    repository: Path,
    name: str,
    *,
    tasks: Sequence[str] | None,
    widths: Sequence[float] | None,
    check: bool,
    progress: Progress,
) -> list[OnnxModel]:
    """A model for each width of the bundle (or of `widths`), of all tasks (or of `tasks`), at the bundle's first size.

    Args:
        bundle: lies in the repository already: its weights are linked to.

    Raises:
        ExportError: a task or a width that the bundle does not have.
        ParityError: a model differs from the network.
    """
    manifest = bundle.manifest
    size_hw = manifest.sizes[0]
    network, _ = model_from_bundle(bundle, size_hw)
    chosen = _chosen_tasks(manifest.tasks, tasks)
    check_widths(network, list(widths) if widths else None)
    missing = [width for width in widths or () if width not in manifest.widths]
    if missing:
        raise ExportError(f"this bundle has the widths {', '.join(map(str, manifest.widths))}, got {missing[0]:g}")
    weights = _weights_of(bundle)
    written = []
    for width in sorted(widths or manifest.widths):
        model_name = f"{name}_w{round(width * 100):03d}"
        progress(model_name, len(written), len(widths or manifest.widths))
        folder = repository / model_name / "1"
        folder.mkdir(parents=True)
        os.link(weights.path, folder / weights.path.name)
        module = _network_of(bundle, network, [task.name for task in chosen], width, size_hw)
        _write(module, folder / MODEL_FILE, weights, size_hw)
        worst = largest_difference(module, folder / MODEL_FILE) if check else None
        write_config(folder.parent, onnx_model(model_name, chosen, size_hw), chosen)
        written.append(OnnxModel(model_name, width, (folder / MODEL_FILE).stat().st_size, worst))
    return written


def write_config(folder: Path, config: dict, tasks: Sequence[TaskSpec]) -> None:
    """A model's config.pbtxt, and the files with class names that it mentions."""
    (folder / CONFIG_FILE).write_text(to_text(config), encoding="utf-8")
    for task in tasks:
        if file := labels_file(task):
            (folder / file).write_text("\n".join(task.classes) + "\n", encoding="utf-8")


def _chosen_tasks(known: Sequence[TaskSpec], wanted: Sequence[str] | None) -> list[TaskSpec]:
    names = [task.name for task in known]
    unknown = [task for task in wanted or () if task not in names]
    if unknown:
        raise ExportError(f"unknown task {', '.join(unknown)}; this bundle has {', '.join(names)}")
    return [task for task in known if wanted is None or task.name in wanted]


def _weights_of(bundle: Bundle) -> WeightsFile:
    spec = bundle.manifest.weights
    path = bundle.path / spec.file
    with path.open("rb") as file:
        header = read_safetensors_header(file, path.stat().st_size)
    offsets = {name: (entry.offset, entry.offset + entry.nbytes) for name, entry in header.tensors.items()}
    return WeightsFile(path, offsets, spec.sha256, spec.header_sha256)


def _network_of(
    bundle: Bundle, network: MultiTaskModel, tasks: list[str], width: float, size_hw: tuple[int, int]
) -> Standalone:
    config = network.config
    letterbox = Letterbox(bundle.manifest.preprocessing, size_hw)
    return Standalone(network, letterbox, tasks, width, config.top_k if config.moe_blocks else 1).eval()


def _write(module: Standalone, path: Path, weights: WeightsFile, size_hw: tuple[int, int]) -> None:
    example = torch.randint(0, 256, (size_hw[0] + 8, size_hw[1] + 24, 3), dtype=torch.uint8)
    dynamic = {ENCODED: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    traced = trace(module, {ENCODED: example}, [*module.tasks, CONTENT_BOX], dynamic=dynamic, lowerings=PORTABLE)
    for name, value in traced.graph.initializers.items():
        tensor, stored = value.const_value, stored_name(name, size_hw)
        if tensor is None or stored not in weights.offsets:
            continue  # a task's routers, which belong to this configuration, and small constants: inside the graph
        offset, length = weights.prefix_of(stored, tensor.numpy())
        shape = ir.Shape(tensor.numpy().shape)
        value.const_value = ir.ExternalTensor(
            weights.path.name, offset, length, tensor.dtype, name=name, shape=shape, base_dir=path.parent
        )
    slim.strip(traced)
    slim.save(traced, path)
