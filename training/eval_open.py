"""What is evaluated: a bundle, or a checkpoint that becomes one for as long as it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..runtime import Bundle, bundled_path
from ..runtime.bundles.graph_spec import FULL_PRECISION
from ..runtime.bundles.manifest import Manifest
from ..runtime.errors import BudgetError
from ..runtime.planning.budget import parse_budget
from ..runtime.planning.sizes import SizeRequest, parse_size
from .errors import EvaluationError
from .eval_runner import Configuration, configurations

__all__ = ["configurations_at", "open_evaluated"]


@contextmanager
def open_evaluated(path: Path | None, size: SizeRequest = None) -> Iterator[tuple[Bundle, tuple[int, int]]]:
    """The bundle to measure and the size to measure at; None is the bundled model.

    A file is a checkpoint: it is exported at that size, or the one it was trained at, with all its widths.

    Raises:
        BundleError: no usable bundle.
        SizeError: the bundle has no such size.
        CheckpointError, ExportError: the file is no checkpoint, or cannot be exported at that size.
    """
    if path is None or not path.is_file():
        opened = Bundle.open(bundled_path() if path is None else path)
        yield opened, parse_size(size, opened.manifest.sizes)
        return
    from ..export import export_bundle

    sizes = None if size is None else [_any_size(size)]
    with tempfile.TemporaryDirectory(prefix="slimpath-eval-") as folder:
        export_bundle(path, Path(folder) / "bundle", sizes=sizes, name=path.stem)
        opened = Bundle.open(Path(folder) / "bundle")
        yield opened, opened.manifest.sizes[0]


def _any_size(size: SizeRequest) -> tuple[int, int]:
    """(H, W) of a requested size, whether any graph has it or not."""
    try:
        parts = size.lower().split("x") if isinstance(size, str) else [size] if isinstance(size, int) else size or ()
        numbers = tuple(int(part) for part in parts)
        height, width = numbers * 2 if len(numbers) == 1 else numbers
    except ValueError:
        raise EvaluationError(f"a size must be HEIGHTxWIDTH in pixels, got {size!r}; say for example 224x320") from None
    return height, width


def configurations_at(manifest: Manifest, tasks: Sequence[str], at: Sequence[str]) -> list[Configuration]:
    """The configurations that texts as "width=0.5,top_k=2" name, for each task.

    What a text does not say is as in `configurations`: all experts, the decoder as wide as the encoder, fp32.

    Raises:
        BudgetError: not such a text.
        EvaluationError: limits, or a width or top_k that the bundle does not have.
    """
    found: list[Configuration] = []
    for task in tasks:
        for text in at:
            wanted = parse_budget(text)
            if any((wanted.share, wanted.flops, wanted.latency_ms, wanted.memory_mb, wanted.energy_mj)):
                raise BudgetError(
                    f"a configuration is measured, not a budget, got {text!r}", hint='for example "width=0.5,top_k=2"'
                )
            precision = wanted.precision or FULL_PRECISION
            known = configurations(manifest, [task], grid=True, precision=precision)
            diagonal = configurations(manifest, [task], grid=False, precision=precision)
            width = max(manifest.widths) if wanted.width is None else wanted.width
            same = {chosen.encoder_width: chosen for chosen in diagonal}
            if width not in same:
                widths = ", ".join(f"{width:g}" for width in same) or f"no {precision} graphs"
                raise EvaluationError(f"{text!r} asks for width {width:g}, this bundle has {widths}")
            chosen = Configuration(
                task,
                width,
                same[width].top_k if wanted.top_k is None else wanted.top_k,
                same[width].decoder_width if wanted.decoder_width is None else wanted.decoder_width,
                precision=precision,
            )
            if chosen not in known:
                top_ks = sorted({one.top_k for one in known})
                decoders = ", ".join(f"{one:g}" for one in sorted({one.decoder_width for one in known}))
                raise EvaluationError(
                    f"{text!r} is no configuration of '{task}': top_k is {top_ks[0]} to {top_ks[-1]}, "
                    f"decoder_width one of {decoders}"
                )
            found.append(chosen)
    return list(dict.fromkeys(found))
