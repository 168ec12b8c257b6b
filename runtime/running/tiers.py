"""The tiers of a session, mapped and packed (see `sessions`): where graphs begin, and where they end."""

from __future__ import annotations

from typing import Literal

from ..backends.base import Backend, Tier

TierRequest = Literal["auto", "mapped", "packed"]


def first_tier(request: TierRequest, backend: Backend, starter: Backend | None) -> tuple[Backend, Tier]:
    """What loads a graph that was never used, and in which tier.

    Args:
        starter: loads first sessions where `backend` has no mapped tier and loads slowly; None for none.
    """
    if request == "auto" and starter is not None:
        return starter, "mapped"
    if request == "auto" and "mapped" in getattr(backend, "tiers", ()):
        return backend, "mapped"
    return backend, final_tier(request)


def final_tier(request: TierRequest) -> Tier:
    """The tier that graphs end in."""
    return "mapped" if request == "mapped" else "packed"
