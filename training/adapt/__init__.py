"""A network that was trained at full width becomes slimmable (`slimpath adapt`).

Reading order: `units` (what widths cut, and how its order can change without changing the network), `importance` (which
units come first), `network` (the original and its copy), `pictures`, `trainer`, `measuring`, and `run`, which puts them
together.
"""

from .config import AdaptConfig
from .errors import AdaptError
from .run import Adapted, adapt, adapt_checkpoint

__all__ = ["AdaptConfig", "AdaptError", "Adapted", "adapt", "adapt_checkpoint"]
