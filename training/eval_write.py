"""A bundle with measured accuracies: a new bundle, as no bundle ever changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..runtime import Bundle
from ..runtime.bundles.accuracy import Accuracy
from ..runtime.bundles.manifest import MANIFEST_FILE, encode_manifest
from .errors import EvaluationError

__all__ = ["check_target", "write_accuracies"]


def check_target(out: Path) -> None:
    """Refuse a place that is taken, before anything is measured.

    Raises:
        EvaluationError: `out` exists.
    """
    if out.exists() or out.is_symlink():
        raise EvaluationError(f"{out} exists; a bundle never changes once written: remove it or choose another place")


def write_accuracies(bundle: Bundle, accuracies: Sequence[Accuracy], out: Path) -> Path:
    """Write the bundle again with these accuracies in place of its own of the same precisions and sizes; whole or not
    at all.

    All files but the manifest are hard links to the original's, copies where the file system has no such links.

    Raises:
        EvaluationError: `out` exists.
    """
    check_target(out)
    first_hw = bundle.manifest.sizes[0]
    measured = {(accuracy.precision, accuracy.size_hw or first_hw) for accuracy in accuracies}
    others = [a for a in bundle.manifest.accuracies if (a.precision, a.size_hw or first_hw) not in measured]
    manifest = msgspec.structs.replace(bundle.manifest, accuracies=(*accuracies, *others))
    data = encode_manifest(manifest)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        for name in manifest.files:
            _link(bundle.path / name, folder / name)
        (folder / MANIFEST_FILE).write_bytes(data)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
