"""Files that verbs write and read: all of a set or none, and the images that a command line means."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageInput:
    """An image to run on, and the stem under which its results are written, relative to the output folder."""

    path: Path
    stem: Path


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files so that none is ever seen half-written: each under a temporary name, then all renamed.

    Raises:
        OSError: something could not be written; then no temporary file is left.
    """
    for path in files:
        if path.is_dir():  # found out while renaming, it would leave half of the set
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    written: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            written[temporary] = path
            temporary.write_bytes(data)
        for temporary, path in written.items():
            os.replace(temporary, path)
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)


def find_images(arguments: Iterable[str], out: Path) -> list[ImageInput]:
    """The images that a command line names: files, folders (with all below them) and patterns such as "*.jpg".

    A file that is named but is not there stays in the list: it is reported when its turn comes, and does not stop
    the others. What lies in the output folder is left out of folders and patterns, so that running twice is the same
    as running once.

    Raises:
        InputError: a folder without images, or a pattern that nothing fits.
    """
    inputs: list[ImageInput] = []
    seen: set[Path] = set()
    stems: set[str] = set()
    for argument in arguments:
        for path, base in _expand(argument, out):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                inputs.append(ImageInput(path, _free_stem(path, base, stems)))
    return inputs


def _expand(argument: str, out: Path) -> list[tuple[Path, Path]]:
    """Paths, each with the folder that its results' names are relative to."""
    path = Path(argument)
    if path.is_dir():
        found = [(image, path) for image in _images_below(path, out)]
        if not found:
            raise InputError(f"{argument}: no images in this folder", hint=f"looked for {', '.join(IMAGE_SUFFIXES)}")
        return found
    if not path.exists() and glob.has_magic(argument):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]
        found = [(match, match.parent) for match in matches if match.is_file() and not _inside(match, out)]
        if not found:
            raise InputError(f"{argument}: no file fits this pattern")
        return found
    return [(path, path.parent)]


def _images_below(folder: Path, out: Path) -> list[Path]:
    images = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(path for path in images if not _inside(path, out) and not path.name.startswith("."))


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _free_stem(path: Path, base: Path, taken: set[str]) -> Path:
    """`room` for room.jpg; `room-2` where another room.png came first. Case is ignored: some file systems do."""
    relative = path.relative_to(base).with_suffix("")
    candidate, number = relative, 1
    while str(candidate).lower() in taken:
        number += 1
        candidate = relative.with_name(f"{relative.name}-{number}")
    taken.add(str(candidate).lower())
    return candidate
