"""What tables do to tensors: how others store a layer, and how we do (units first, see models/layers.py)."""

from typing import Any

from torch import Tensor

from .table import Parts


def transposed(tensor: Tensor, _parts: Parts, _config: Any) -> Tensor:
    """[out, in] to [in, out]."""
    return tensor.T


def by_head(tensor: Tensor, parts: Parts, config: Any) -> Tensor:
    """Rows ordered (query, key, value), then head, to rows ordered by head, then (query, key, value)."""
    heads = config.heads if isinstance(config.heads, int) else config.heads[int(parts["stage"])]
    cut = tensor.reshape(3, heads, -1, *tensor.shape[1:])
    return cut.transpose(0, 1).reshape(tensor.shape)


def apart(tensor: Tensor, _parts: Parts, _config: Any) -> list[Tensor]:
    """One tensor per expert."""
    return list(tensor.unbind(0))


def apart_transposed(tensor: Tensor, _parts: Parts, _config: Any) -> list[Tensor]:
    """One tensor per expert, [out, in] to [in, out]."""
    return [piece.T for piece in tensor.unbind(0)]
