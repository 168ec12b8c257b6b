"""Parts of the manifest that its graphs for CPUs and those for GPUs share."""

from __future__ import annotations

import msgspec


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """FLOPs (2 per multiply-add) of the matrix products and convolutions of the units really kept.

    encoder = I * flops_image + B * flops_row + (sum of top_k over rows) * flops_row_per_expert
    head    = R * flops_row
    """

    flops_image: int = 0
    flops_row: int = 0
    flops_row_per_expert: int = 0


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How near the graph came to the network it was exported from (design, section 7)."""

    max_abs_error: float
    max_abs_reference: float
    min_gap: float | None
    seed: int
    tolerance: float
    passed: bool


class WeightsSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The weights file; `header_sha256` is over the 8 length bytes and the JSON header."""

    file: str
    bytes: int
    sha256: str
    header_sha256: str
