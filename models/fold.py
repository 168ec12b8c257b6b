"""What deploys: a network that computes the same with fewer products.

Shared low-rank adapters are merged into the weights they belong to wherever that is exact, which is everywhere but in
the last block of a Swin's stage, whose task branches need the products without them. Batch norms are merged, with the
statistics they have, into the convolutions before them. Both commute with taking a prefix, so every width stays a view.
"""

import copy
from dataclasses import replace

from .families import AnyConfig
from .model import MultiTaskModel
from .swin_config import SwinConfig


def folds(config: AnyConfig) -> bool:
    """Whether there is anything to fold."""
    published = any(task.decoder in ("setr_pup", "hrnet") for task in config.tasks)
    shared = isinstance(config, SwinConfig) or config.shared_rank > 0
    return not config.folded and (published or shared)


def folded(model: MultiTaskModel) -> MultiTaskModel:
    """A copy of the model, folded, that computes the same in evaluation mode; the model itself if nothing can be.

    It cannot be trained on as the model was: the adapters that are merged exist no more.
    """
    if not folds(model.config):
        return model
    clone = copy.deepcopy(model).eval()
    for layer in list(clone.modules()):
        if hasattr(layer, "fold_"):
            layer.fold_()  # type: ignore[operator]
    clone.config = clone.encoder.config = replace(model.config, folded=True)  # type: ignore[assignment]
    return clone
