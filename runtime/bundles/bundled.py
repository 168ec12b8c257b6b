"""The model that comes with slimpath."""

from __future__ import annotations

from pathlib import Path

from ..errors import BundleError


def bundled_path() -> Path:
    """The folder of the bundled model.

    Raises:
        BundleError: this installation has none.
    """
    path = Path(__file__).resolve().parent.parent.parent / "assets" / "m3vit_nano"
    if not (path / "manifest.json").is_file():
        raise BundleError(
            f"this installation has no bundled model at {path}",
            hint="install slimpath from its wheel, or name a bundle that you exported",
        )
    return path
