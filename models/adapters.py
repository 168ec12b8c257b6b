"""Low-rank adapters (Hu et al. 2021, LoRA; Agiza et al. 2024, MTLoRA): shared ones in a layer, per-task ones as input.

A shared adapter belongs to its layer. A task's adapters are no part of the encoder's graph: rows of a batch bring
those of their task along, flat, as they bring their routers, so one graph serves every task.

Axes: B rows (one task each), N tokens, T tokens of all rows, R rank, P numbers of all adapters of a task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import narrow_parameters_, prefix


class Site(NamedTuple):
    """A place in the encoder that a task adapts: units that go in and come out there (at some width), and the rank."""

    name: str
    inputs: int
    outputs: int
    rank: int

    @property
    def numbers(self) -> int:
        """How many numbers a task brings for it."""
        return (self.inputs + self.outputs) * self.rank


class LowRank(nn.Module):
    """x @ down @ up^T, down [in, R], up [out, R]: whichever side is slimmed, its units come first. Starts at 0."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        start = nn.init.kaiming_uniform_(torch.empty(rank, inputs), a=5**0.5)  # as LoRA starts its A
        self.down = nn.Parameter(start.T.contiguous())
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, tokens_TD: Tensor, scale: float, inputs: int | None = None, outputs: int | None = None) -> Tensor:
        """scale * tokens @ down @ up^T over the first `inputs` and `outputs` units."""
        down = prefix(self.down, inputs or self.down.shape[0])
        hidden_TR = torch.mm(tokens_TD, down) * scale
        return nn.functional.linear(hidden_TR, prefix(self.up, outputs or self.up.shape[0]))

    def narrow_inputs_(self, units: int) -> None:
        """Keep the first `units` inputs for good (export)."""
        narrow_parameters_(self, units, "down")

    def narrow_outputs_(self, units: int) -> None:
        """Keep the first `units` outputs for good (export)."""
        narrow_parameters_(self, units, "up")

    @torch.no_grad()
    def product(self, scale: float) -> Tensor:
        """scale * up @ down^T, [out, in]: what is added to a weight of that shape to fold the adapter into it."""
        return scale * (self.up.double() @ self.down.double().T)


def task_adapters(sites: Sequence[Site]) -> nn.ModuleDict:
    """One task's adapters at full width, by site."""
    return nn.ModuleDict({site.name: LowRank(site.inputs, site.outputs, site.rank) for site in sites})


def flat_adapters(adapters: nn.ModuleDict, sites: Sequence[Site]) -> Tensor:
    """One task's adapters at the width of `sites`, flat [P]: per site the prefix of `down`, then that of `up`."""
    pieces = []
    for site in sites:
        adapter = adapters[site.name]
        assert isinstance(adapter, LowRank)
        pieces += [prefix(adapter.down, site.inputs).reshape(-1), prefix(adapter.up, site.outputs).reshape(-1)]
    return torch.cat(pieces)


def adapter_rows(sites: Sequence[Site]) -> tuple[int, ...]:
    """Leading rows taken of every tensor that `flat_adapters` joins, in its order."""
    return tuple(rows for site in sites for rows in (site.inputs, site.outputs))


class RowAdapters:
    """The adapters of a batch's rows, cut from their flat form."""

    def __init__(self, flat_BP: Tensor, sites: Sequence[Site]) -> None:
        sizes = [size for site in sites for size in (site.inputs * site.rank, site.outputs * site.rank)]
        pieces = iter(torch.split(flat_BP, sizes, dim=1))
        self._of_site: dict[str, tuple[Tensor, Tensor]] = {}
        for site in sites:
            down, up = next(pieces), next(pieces)
            self._of_site[site.name] = down.unflatten(1, (-1, site.rank)), up.unflatten(1, (-1, site.rank))

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        """down [B, in, R] and up [B, out, R] of a site."""
        return self._of_site[name]

    def __call__(self, name: str, tokens_BND: Tensor, scale: float) -> Tensor:
        """scale * tokens @ down @ up^T of a site, each row with the adapter of its own task."""
        down_BDR, up_BDR = self.of(name)
        return torch.matmul(torch.matmul(tokens_BND, down_BDR) * scale, up_BDR.transpose(1, 2))
