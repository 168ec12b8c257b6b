"""Small files of the kernel and of the firmware (/proc, /sys, device trees), read without any library."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str:
    """A file's text without the zero byte that device trees end with; "" where there is none, or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\0").strip()
    except (OSError, ValueError):  # ValueError: a path with a zero byte
        return ""


def number(path: Path) -> int | None:
    """A file's whole number; None where there is none: sensors of sleeping parts answer with an error."""
    try:
        return int(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
