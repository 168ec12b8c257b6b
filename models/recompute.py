"""Less memory for more time: an encoder's blocks keep what enters them alone, and run once more for their gradients.

Gradient checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost") through
`torch.utils.checkpoint`, which puts the random state of the first run before the second: the noise of routers is the
same in both.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

RunBlock = Callable[..., Any]
"""Called with a block's function and what enters it; returns what the function does."""


def run_now(function: Callable[..., Any], *inputs: Any) -> Any:
    """Once, as it stands."""
    return function(*inputs)


@contextmanager
def recomputed_blocks(
    encoder: nn.Module, around: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[None]:
    """Inside, blocks of an `Encoder` or `SwinEncoder` forget what they computed, and compute it again when gradients
    are asked for: then within what `around` makes, as that may be long after this context has ended."""

    def run_block(function: Callable[..., Any], *inputs: Any) -> Any:
        contexts = nullcontext(), _Anew(around)
        return checkpoint(function, *inputs, use_reentrant=False, context_fn=lambda: contexts)

    encoder.run_block = run_block  # type: ignore[assignment]
    try:
        yield
    finally:
        del encoder.run_block  # the class has the plain one


class _Anew:
    """A context that is made each time that it is entered: gradients may be asked for more than once."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make, self._open = make, ExitStack()

    def __enter__(self) -> None:
        self._open.enter_context(self._make())

    def __exit__(self, *raised: Any) -> None:
        self._open.close()
