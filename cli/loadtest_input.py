"""What `slimpath loadtest` reads and writes besides its report: deadlines, fields of the query, images, samples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from .common import say
from .errors import InputError

if TYPE_CHECKING:
    from ..service.loadtest.run import Outcome

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_DEADLINE = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|x)", re.IGNORECASE)


def parse_deadline(text: str | None) -> tuple[float | None, float | None]:
    """(seconds, None), or (None, factor) from "3x"; neither of None.

    Raises:
        InputError: it is neither.
    """
    if text is None:
        return None, None
    found = _DEADLINE.fullmatch(text.strip())
    number = float(found[1]) if found else 0.0
    if not found or number <= 0:
        raise InputError(f"a deadline must be a time or a factor, got {text!r}", hint='for example "200ms" or "3x"')
    unit = found[2].lower()
    return (None, number) if unit == "x" else (number / (1000 if unit == "ms" else 1), None)


def parse_options(pairs: list[str], *, tasks: str | None, budget: str | None) -> dict[str, str]:
    """The fields of the query.

    Raises:
        InputError: a pair without "=".
    """
    options = {name: value for name, value in (("tasks", tasks), ("budget", budget)) if value is not None}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"an option must be NAME=VALUE, got {pair!r}", hint='for example "format=rle"')
        options[name] = value
    return options


def read_bodies(paths: list[Path]) -> list[bytes]:
    """The image files that are sent; a made-up one if there are none.

    Raises:
        InputError: a folder without images.
        OSError: a file cannot be read.
    """
    if not paths:
        from ..service.loadtest.picture import made_up_photograph

        return [made_up_photograph()]
    files: list[Path] = []
    for path in paths:
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no images", hint=f"files that end with {', '.join(IMAGE_SUFFIXES)}")
        files += found
    return [file.read_bytes() for file in files]


def write_samples(outcome: Outcome, path: Path) -> None:
    """One line per request, as CSV."""
    import csv
    from dataclasses import asdict, fields

    from ..service.loadtest.samples import Sample

    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in outcome.samples)
    temporary.replace(path)
    say(f"slimpath: wrote {path}")
