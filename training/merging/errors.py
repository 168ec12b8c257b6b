"""What can go wrong in merging."""

from __future__ import annotations

from ..errors import TrainingError

__all__ = ["MergeError"]


class MergeError(TrainingError):
    """Checkpoints that cannot become one model, or a setting that cannot work."""
