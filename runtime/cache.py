"""$SLIMPATH_CACHE: what this device learnt about bundles. Losing it costs time only, so failing to write is fine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$SLIMPATH_CACHE, else slimpath/ under $XDG_CACHE_HOME or ~/.cache. Not created here."""
    if chosen := os.environ.get("SLIMPATH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "slimpath"


class VerifiedFiles:
    """Which files were seen to have the hash that their bundle states; a changed file has another identity."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (folder or cache_folder()) / "verified"

    def knows(self, status: os.stat_result, sha256: str) -> bool:
        try:
            return (self._folder / _identity(status, sha256)).is_file()
        except OSError:
            return False

    def remember(self, status: os.stat_result, sha256: str) -> None:
        """Note it down; on a read-only or full disk the file is simply hashed again next time."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / _identity(status, sha256)).touch()
        except OSError:
            return


def _identity(status: os.stat_result, sha256: str) -> str:
    return f"{status.st_dev:x}-{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{sha256}"
