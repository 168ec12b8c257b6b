"""`slimpath eval`: how good each configuration of a bundle is, on scenes it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Debug, Json, need, verb
from .output import print_json


@verb
def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to measure.")],
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Held-out SynthRooms scenes to measure on.")] = 500,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure."""
