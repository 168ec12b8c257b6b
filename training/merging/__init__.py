"""Several single-task fine-tunes of one base become one multi-task model (`slimpath merge`).

The backbone is merged; heads, routers and adapters of a task are those of its own fine-tune. A task vector is what a
fine-tuning changed in the backbone (Ilharco et al. 2023, "Editing models with task arithmetic", section 2).
"""

from .config import METHODS, MergeConfig
from .errors import MergeError
from .family import Family, Source, load_family
from .run import MergeReport, merge_checkpoints, merge_family

__all__ = [
    "METHODS",
    "Family",
    "MergeConfig",
    "MergeError",
    "MergeReport",
    "Source",
    "load_family",
    "merge_checkpoints",
    "merge_family",
]
