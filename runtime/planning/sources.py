"""What a planner draws on: graphs, prices and accuracies, and which sizes and precisions a request may choose among."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from ..errors import BudgetError
from .budget import Budget
from .configurations import Configurations, Prices, Size, Space
from .costs import CostModel
from .worth import Accuracies


@dataclass(frozen=True)
class Sources:
    """The same for all searches of a planner, until its costs change.

    Args:
        precisions: that may be used; fp32 always.
    """

    configurations: Configurations
    accuracies: Accuracies
    costs: CostModel
    prices: Prices
    precisions: tuple[str, ...]

    def space(self, tasks: Iterable[str], size_hw: Size, precision: str, pins: Budget) -> Space:
        """The choices at one size and precision that the pins leave; at least one.

        Raises:
            BudgetError: there are none.
        """
        if not self.configurations.has(size_hw, precision) or precision not in self.precisions:
            raise BudgetError(
                f"no graphs in {precision} that can be used here", hint=f"there are {', '.join(self.precisions)}"
            )
        space = self.configurations.space(tasks, size_hw, precision, self.prices)
        pinned = space.pinned(pins, self.configurations.manifest)
        if not pinned.encoders:
            raise BudgetError(
                f"no {precision} encoder of width {pins.width:g}",
                hint=f"there are {', '.join(f'{width:g}' for width in sorted({e.width for e in space.encoders}))}",
            )
        return pinned

    def measured_spaces(self, tasks: Iterable[str], size_hw: Size | None, pins: Budget) -> Iterator[Space]:
        """Those at sizes and in precisions where the accuracy of all tasks is known: none is chosen blindly."""
        names = list(tasks)
        for other_hw in self.configurations.manifest.sizes if size_hw is None else (size_hw,):
            for precision in self.precisions if pins.precision is None else (pins.precision,):
                measured = all(self.accuracies.measured(task, other_hw, precision) for task in names)
                if measured and self.configurations.has(other_hw, precision):
                    with suppress(BudgetError):  # it has not what is pinned
                        yield self.space(names, other_hw, precision, pins)
