"""Public multi-task data sets and your own folders as samples for training, each layout read as it is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .files import FileDataset
from .folder import PlainFolder
from .mtan import Mtan
from .nyud import NyudMt, NyudV2
from .pascal import PascalMt

__all__ = ["LAYOUTS", "FileDataset", "open_dataset"]

LAYOUTS: dict[str, type[FileDataset]] = {
    "pascal_mt": PascalMt,
    "nyud_mt": NyudMt,
    "nyud_v2": NyudV2,
    "mtan": Mtan,
    "folder": PlainFolder,
}


def open_dataset(layout: str, root: Path, split: str, tasks: Sequence[str]) -> FileDataset:
    """The samples of a split, every file that `tasks` need checked; what is in a .mat is only seen when it is read.

    Raises:
        DataError: there is no such layout, split or task, or files are missing or do not fit together; all are named.
    """
    if layout not in LAYOUTS:
        raise DataError(f"data.dataset must be one of {', '.join(LAYOUTS)}, got '{layout}'")
    return LAYOUTS[layout](root, split, tasks)
