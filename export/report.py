"""What an export made: where, how large, how near to the network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Called with what is being done, how many steps are done, and how many there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportReport:
    """Result of an export; `worst_error` is None where nothing was checked.

    `kept_experts` counts the experts that each task can reach, block by block; empty where nobody measured them.
    """

    path: Path
    size_bytes: int
    weights_bytes: int
    graphs: int
    worst_error: float | None
    passed: bool
    kept_experts: dict[str, tuple[int, ...]] = field(default_factory=dict)


def no_progress(_what: str, _done: int, _total: int) -> None:
    """For callers who do not look."""
