"""What every check of a manifest is written with: one requirement, one sentence when it does not hold."""

from __future__ import annotations

import re

from ..errors import ManifestError

EXPORT_AGAIN = "copy or export the bundle again"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PRECISION = re.compile(r"[a-z][a-z0-9_-]{0,15}")


def require(holds: bool, where: str, expected: str, got: object) -> None:
    """Nothing, if it holds.

    Raises:
        ManifestError: naming the field, what it must be, and what it is.
    """
    if not holds:
        raise ManifestError(f"the manifest's {where} must be {expected}, got {got!r}", hint=EXPORT_AGAIN)


def require_file(where: str, name: str) -> None:
    """Bare names only: a bundle is flat, and no name in it may lead anywhere else, on any system."""
    bare = bool(name) and not any(c in name for c in "/\\:\0") and name not in (".", "..") and len(name) <= 255
    require(bare, where, "a bare file name", name)


def require_precision(where: str, name: str) -> None:
    """Any short name: which ones a backend knows is not the manifest's matter."""
    require(bool(_PRECISION.fullmatch(name)), where, 'a short name such as "int8"', name)


def require_sha256(where: str, digest: str) -> None:
    """As `hashlib` writes it."""
    require(bool(_SHA256.fullmatch(digest)), where, "64 lower-case hex digits", digest)
