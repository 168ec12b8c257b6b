"""What can go wrong in training and evaluation.

TrainingError
├── ConfigError      a setting that cannot work, or an override that cannot be read
├── DataError        samples missing, or not what the tasks need
├── DivergedError    a loss or gradient that is not finite; carries the file with the batch that did it
├── ResumeError      a saved state that belongs to another training
└── EvaluationError  a bundle that cannot be scored as asked
"""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import SlimpathError

__all__ = ["ConfigError", "DataError", "DivergedError", "EvaluationError", "ResumeError", "TrainingError"]


class TrainingError(SlimpathError):
    """Base of everything that training and evaluation raise on purpose."""


class ConfigError(TrainingError):
    """A training setting that cannot work, or an override that cannot be read."""


class DataError(TrainingError):
    """Samples are missing, or lack something a task needs."""


class ResumeError(TrainingError):
    """A saved training state does not belong to the training it should continue."""


class EvaluationError(TrainingError):
    """A bundle cannot be scored as asked."""


class DivergedError(TrainingError):
    """A loss or a gradient stopped being finite.

    Attributes:
        step: the step at which it happened; no weight was changed by it.
        batch_file: where the batch was saved, for a look at it.
    """

    def __init__(self, message: str, *, step: int, batch_file: Path) -> None:
        super().__init__(message)
        self.step = step
        self.batch_file = batch_file
