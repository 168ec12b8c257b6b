"""A Triton model repository: one Python model that wraps the runtime, and an ONNX model a width.

NAME/1/model.py, NAME/1/bundle/        any tasks, any budget; needs slimpath in Triton's Python
NAME_w050/1/model.onnx                 one width, needs nothing but Triton's ONNX Runtime backend
NAME*/config.pbtxt, NAME*/*.labels.txt
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runtime.bundles.bundle import Bundle
from ..bundle import export_bundle
from ..errors import ExportError, TargetExistsError
from ..report import Progress, no_progress
from .config import python_model
from .onnx_models import OnnxModel, write_config, write_onnx_models

_TEMPLATE = Path(__file__).with_name("model.py")
#: Parameters of the Python model's config.pbtxt; what is empty is as `Engine.load` has it.
SETTINGS = ("backend", "threads", "memory_limit_mb", "budget")


@dataclass(frozen=True)
class TritonReport:
    """What was written. Each file counts once in `size_bytes`, however many names it has."""

    path: Path
    python_model: str
    onnx_models: tuple[OnnxModel, ...]
    size_bytes: int
    weights_bytes: int

    @property
    def worst_error(self) -> float | None:
        """The largest difference of an ONNX model from the network; None where nothing was compared."""
        return max((model.worst_error for model in self.onnx_models if model.worst_error is not None), default=None)


def export_triton(
    source: Path | str,
    out: Path | str,
    *,
    name: str | None = None,
    tasks: Sequence[str] | None = None,
    widths: Sequence[float] | None = None,
    onnx: bool = True,
    check: bool = True,
    settings: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> TritonReport:
    """Write a model repository; it appears whole or not at all.

    Args:
        source: a bundle's folder, or a checkpoint, of which one is exported first.
        name: of the Python model; the ONNX models add their width to it. The bundle's name by default.
        tasks: of the ONNX models; all by default. The Python model always has all.
        widths: of the ONNX models; the bundle's by default.
        onnx: whether to write ONNX models at all.
        check: compare each ONNX model with the network.
        settings: of the Python model, see SETTINGS.

    Raises:
        TargetExistsError: `out` exists.
        ExportError: a name that Triton cannot have, or tasks, widths or settings that do not exist.
        BundleError: `source` is a folder, but no bundle. ParityError: a model differs from the network.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise TargetExistsError(f"{out} exists; remove it or choose another name")
    unknown = sorted(set(settings or {}) - set(SETTINGS))
    if unknown:
        raise ExportError(f"unknown setting {unknown[0]}; the Python model has {', '.join(SETTINGS)}")
    chosen = _checked_name(name or (Bundle.open(source).manifest.name if source.is_dir() else source.stem))
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        bundle = _place_bundle(source, folder / chosen / "1" / "bundle", check, progress)
        shutil.copyfile(_TEMPLATE, folder / chosen / "1" / "model.py")
        config = python_model(chosen, bundle.manifest, dict(settings or {}))
        write_config(folder / chosen, config, bundle.manifest.tasks)
        models: list[OnnxModel] = []
        if onnx:
            models = write_onnx_models(
                bundle, folder, chosen, tasks=tasks, widths=widths, check=check, progress=progress
            )
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return TritonReport(out, chosen, tuple(models), _unique_bytes(out), bundle.manifest.weights.bytes)


def _place_bundle(source: Path, target: Path, check: bool, progress: Progress) -> Bundle:
    """The bundle inside the repository: exported there, or copied; weights by hard links where that is possible."""
    target.parent.mkdir(parents=True)
    if not source.is_dir():
        export_bundle(source, target, check=check, progress=progress)
        return Bundle.open(target)
    bundle = Bundle.open(source, verify=True)
    target.mkdir()
    for file in sorted(path for path in bundle.path.iterdir() if path.is_file()):  # bundles are flat
        place = _link_or_copy if file.suffix == ".safetensors" else shutil.copyfile
        place(file, target / file.name)
    return Bundle.open(target)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _checked_name(name: str) -> str:
    """Triton takes a model's name from its folder, and clients put it into URLs."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise ExportError(f"a model's name must be letters, digits, '_', '-' and '.', got {name!r}; choose one: --name")
    return name


def _unique_bytes(folder: Path) -> int:
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in (p.stat() for p in folder.rglob("*.*"))}
    return sum(sizes.values())
