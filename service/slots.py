"""What the registry knows of each name: where its bundle lies, what serves it, in which state it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .model import Model

State = Literal["UNAVAILABLE", "LOADING", "READY", "UNLOADING"]  # those of the protocol's repository index


@dataclass(frozen=True)
class IndexEntry:
    """A line of the repository index. `reason` is why it is not READY, or why the last reload was refused."""

    name: str
    version: str
    state: State
    reason: str


@dataclass
class Slot:
    """A name, where its bundle lies, and what serves it now."""

    name: str
    folder: Path
    state: State = "UNAVAILABLE"
    reason: str = "never loaded"
    model: Model | None = None
    wanted: bool = True  # unloading on purpose does not make the server unready
    loads: int = 0
    refusals: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
