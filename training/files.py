"""Files beside a result."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_json", "write_whole"]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document under a temporary name, then rename it: the file appears whole or not at all.

    Numbers that are not finite become null: JSON has no others.
    """
    write_whole(path, (json.dumps(_finite(document), indent=1, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, data: bytes) -> None:
    """Write bytes under a temporary name, then rename it: the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
