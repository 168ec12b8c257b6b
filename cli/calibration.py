"""Pictures on which an export watches the routers: those of a folder, or rendered rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import need
from .errors import InputError
from .files import find_images

if TYPE_CHECKING:
    import numpy as np

    from ..export import Calibration

ROOMS = 32
MAX_IMAGES = 256  # of a folder: evenly spaced ones; more would change the shares in their third digit
FIRST_SEED = 5_000_000  # of the rooms: below are those of trainings, from 10,000,000 on those of evaluations
_ROOM_HW = (224, 224)


class Pictures(Sequence["np.ndarray"]):
    """Pictures that are made or read when their turn comes, so that a thousand photographs need no memory."""

    def __init__(self, count: int, make: Callable[[int], np.ndarray]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._make(number) for number in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._make(index % self._count)


def load_calibration(source: str | None) -> Calibration:
    """The pictures that `--calibration` names; None means some rendered rooms.

    Raises:
        InputError: neither a folder with images nor "rooms:N".
    """
    from ..export import Calibration

    source = source or f"rooms:{ROOMS}"
    kind, colon, count = source.partition(":")
    if kind == "rooms" and colon:
        if not count.isdecimal() or not 1 <= int(count) <= FIRST_SEED:
            raise InputError(f"--calibration rooms:N needs a number of rooms, got '{source}'", hint="say rooms:32")
        need(("tqdm",), "train", "rendering rooms for calibration (instead of --calibration DIR)")
        return Calibration(Pictures(int(count), _render), source)
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder of calibration pictures", hint="or say rooms:32")
    found = [image.path for image in find_images([str(folder)], folder / ".none")]
    chosen = found[:: -(-len(found) // MAX_IMAGES)]
    return Calibration(Pictures(len(chosen), lambda number: _read(chosen[number])), f"{folder.resolve().name}/")


def _render(number: int) -> np.ndarray:
    from ..training.synthrooms import render_rooms

    return render_rooms([FIRST_SEED + number], _ROOM_HW, samples_per_pixel=1).image_BHW3[0].numpy()


def _read(path: Path) -> np.ndarray:
    from ..runtime import load_image

    return load_image(path).rgb
