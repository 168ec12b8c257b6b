"""`slimpath inspect PACK`: what a task pack adds, to which bundle, and what that weighs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .inspect_tables import print_accuracies, print_files, provenance_rows
from .output import human_bytes, print_json, print_table

if TYPE_CHECKING:
    from ..runtime import Pack


def inspect_pack(folder: Path, verify: bool, json: bool) -> None:
    """Open a pack and print what is in it.

    Raises:
        BundleError: it is damaged.
    """
    from ..runtime import Pack

    opened = Pack.open(folder, verify=verify)
    if json:
        print_json(describe_pack(opened, verify))
    else:
        _print(opened, verify)


def describe_pack(pack: Pack, verified: bool) -> dict[str, Any]:
    """Everything that `inspect` prints of a pack, as one document."""
    manifest = pack.manifest
    added = manifest.parameters
    return {
        "path": str(pack.path),
        "pack": True,
        "task": manifest.task,
        "base": manifest.base,
        "licence": manifest.licence,
        "slimpath_version": manifest.slimpath_version,
        "digest": pack.digest,
        "verified": verified,
        "bytes": _size(pack),
        "weights_bytes": manifest.weights.bytes,
        "parameters": added,
        "share_in_encoder": added.in_encoder / max(1, added.base),
        "share": added.total / max(1, added.base),
        "graphs": manifest.graphs,
        "accuracies": manifest.accuracies,
        "provenance": manifest.provenance,
    }


def _size(pack: Pack) -> int:
    return sum((pack.path / name).stat().st_size for name in ("pack.json", *pack.manifest.files))


def _print(pack: Pack, verified: bool) -> None:
    manifest = pack.manifest
    task, added = manifest.task, manifest.parameters
    print(f"task pack {task.name}  ({manifest.licence}, written by slimpath {manifest.slimpath_version})")
    print(f"{pack.path}  {pack.digest[:16]}{'  all hashes verified' if verified else ''}")
    print(f"for {manifest.base.name} ({manifest.base.sha256[:16]}), and for no other bundle")
    share, total = (100 * count / max(1, added.base) for count in (added.in_encoder, added.total))
    print(
        f"{human_bytes(_size(pack))}; adds {added.in_encoder} parameters to the encoder ({share:.2f} % of the model) "
        f"and {added.head} in its head ({total:.2f} % together)\n"
    )
    rows = [(task.name, task.kind, task.channels, task.unit or "-", task.description)]
    print_table("task", ("task", "kind", "channels", "unit", "what"), rows, numeric=(2,))
    print_files(manifest.weights, manifest.graphs)
    print_accuracies(manifest.accuracies)
    if manifest.provenance:
        print_table("provenance", ("what", "value"), provenance_rows(manifest.provenance))
