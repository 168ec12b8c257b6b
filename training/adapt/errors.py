"""What can go wrong when a network is made slimmable."""

from __future__ import annotations

from ..errors import TrainingError

__all__ = ["WITHOUT_LABELS", "AdaptError"]

WITHOUT_LABELS = "say --no-labels to learn from the original alone"
"""How to go on where labels do not do."""


class AdaptError(TrainingError):
    """A checkpoint that cannot be made slimmable, pictures or labels that do not fit it, or a taken place."""
