"""Everything that slimpath's runtime can refuse, as one tree: catch at the height you want.

SlimpathError                  anything below; str() says what was expected, what came, how to go on
├── BundleError                a folder that is not, or no longer, a bundle
│   ├── ManifestError          manifest.json: missing, not JSON, unknown version, contradicting itself
│   ├── GraphError             an .onnx file: missing, truncated, changed, or pointing outside the bundle
│   ├── WeightsError           weights.safetensors: missing, truncated, changed, a symbolic link
│   └── PackError              a task pack: damaged, for another bundle, or with a task that exists
├── ImageError                 not an image, damaged, too large, or of a shape nobody can use
├── TaskError                  a task that the bundle does not have, a preference that is no preference
├── BudgetError                a budget that cannot be read, or a width that the bundle does not have
│   └── InfeasibleBudgetError  with strict=True: even the smallest configuration costs more
├── SizeError                  an input size that the bundle has no graphs for, or an output that is too large
├── ProfileError               no profile of this device, backend and bundle, or one that does not hold here
└── BackendError               the inference library is missing, broken, or failed
"""

from __future__ import annotations


class SlimpathError(Exception):
    """What went wrong, and in `hint` how to go on (empty where the message says it all)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class BundleError(SlimpathError):
    """The folder is not a bundle, or is damaged."""


class ManifestError(BundleError):
    """manifest.json cannot be used."""


class GraphError(BundleError):
    """An .onnx file of the bundle cannot be used."""


class WeightsError(BundleError):
    """The weights file of the bundle cannot be used."""


class PackError(BundleError):
    """The task pack cannot be used, or not with this bundle."""


class ImageError(SlimpathError):
    """The image cannot be used."""


class TaskError(SlimpathError):
    """The requested tasks cannot be used."""


class BudgetError(SlimpathError):
    """The budget cannot be used."""


class InfeasibleBudgetError(BudgetError):
    """Even the smallest configuration costs more than the budget, and the caller asked to be strict."""


class SizeError(SlimpathError):
    """The size cannot be used."""


class ProfileError(SlimpathError):
    """There is no profile that holds here; the message says why."""


class BackendError(SlimpathError):
    """The inference library is missing, broken, or failed."""
