"""`convert`: a checkpoint of another project becomes one of ours, ready for `slimpath export`."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ...models import MultiTaskModel, save_checkpoint
from ...models.errors import ConfigError
from ...runtime.bundles.preprocessing import Preprocessing
from ...runtime.imaging.preprocess import IMAGENET_MEAN, IMAGENET_STD
from ..describe import plain_spec
from ..errors import ConvertError, TargetExistsError
from . import m3vit, mtlora, swin, vit
from .source import ConvertOptions, Result
from .table import Rule
from .tasks import CLASSES

Loader = Callable[[Path, ConvertOptions], Result]

#: What can be read: how, and the table from foreign names to ours.
FORMATS: dict[str, tuple[Loader, tuple[Rule, ...]]] = {
    "m3vit": (m3vit.load, m3vit.RULES),
    "mtlora": (mtlora.load, mtlora.RULES),
    "timm-vit": (vit.load, vit.RULES),
    "timm-swin": (swin.load, swin.RULES),
    "hydravit": (vit.load_hydravit, vit.RULES),
}


#: How images were normalised: mean and deviation of their channels, from 0 to 1.
NORMALISATION: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class ConvertReport:
    """What was written, and what the reader should know about it.

    Args:
        read: How many tensors the source has.
        dropped: Reason -> how many of them were not needed for it.
        assumed: What was assumed, and how to say otherwise.
        names: Our name -> foreign name.
        dropped_names: Foreign name -> why it was not needed.
    """

    path: Path
    family: str
    tasks: tuple[str, ...]
    image_hw: tuple[int, int]
    parameters: int
    read: int
    dropped: dict[str, int]
    assumed: tuple[str, ...]
    names: dict[str, str]
    dropped_names: dict[str, str]


def convert(format: str, source: Path | str, out: Path | str, options: ConvertOptions | None = None) -> ConvertReport:
    """Write a foreign checkpoint as one of ours; the file appears whole or not at all.

    Args:
        format: One of `FORMATS`.
        source: A file; for `m3vit` also a folder with one file per rank.
        out: The .safetensors file to write.
        options: What cannot be read from the source.

    Raises:
        FileNotFoundError: there is no source.
        TargetExistsError: `out` exists.
        ConvertError: an unknown format, or something is missing, does not fit, or has to be said.
        UnsafeFileError: a file is damaged or would run code.
    """
    source, out = Path(source), Path(out)
    if format not in FORMATS:
        raise ConvertError(f"format must be one of {', '.join(FORMATS)}, got '{format}'")
    if not source.exists():
        raise FileNotFoundError(f"no checkpoint at {source}")
    if out.exists() or out.is_symlink():
        raise TargetExistsError(f"{out} exists; remove it or choose another name")
    options = options or ConvertOptions()
    load, _ = FORMATS[format]
    try:
        result = load(source, options)
    except ConfigError as error:
        raise ConvertError(f"{source} describes no network of ours: {error}") from error
    save_checkpoint(out, result.model, _metadata(format, source, result, options))
    config = result.model.config
    return ConvertReport(
        path=out,
        family=config.family,
        tasks=config.task_names,
        image_hw=config.image_hw,
        parameters=sum(parameter.numel() for parameter in result.model.parameters()),
        read=result.read,
        dropped=dict(Counter(result.found.dropped.values())),
        assumed=tuple(result.assumed),
        names=dict(result.found.origin),
        dropped_names=dict(result.found.dropped),
    )


def _metadata(format: str, source: Path, result: Result, options: ConvertOptions) -> dict[str, Any]:
    preprocessing = Preprocessing("stretch", *NORMALISATION[options.normalise])
    return {
        "tasks": msgspec.to_builtins(_task_specs(result.model, format)),
        "preprocessing": msgspec.to_builtins(preprocessing),
        "licence": "unknown",
        "provenance": {
            "converted_by": "slimpath convert",
            "format": format,
            "source": source.name,
            "sha256": {file.name: _sha256(file) for file in _files(source)},
            "assumed": list(result.assumed),
        },
    }


def _task_specs(model: MultiTaskModel, format: str) -> list[Any]:
    specs = []
    for head in model.config.tasks:
        names = CLASSES.get((head.name, head.channels)) if format in ("m3vit", "mtlora") else None
        spec = plain_spec(head)
        specs.append(msgspec.structs.replace(spec, classes=names) if names else spec)
    return specs


def _files(source: Path) -> list[Path]:
    return sorted(source.glob("*.pth")) if source.is_dir() else [source]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
