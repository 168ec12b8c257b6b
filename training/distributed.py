"""Several processes, one training: each works on its share of a step's rows, and gradients are averaged.

`torchrun --nproc-per-node 2 -m slimpath train ...` sets the environment that `join` reads. On a CPU, two processes of
one thread each are faster than one process of two: the many small operations of a step wait for no one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .devices import check_device
from .errors import ConfigError

__all__ = [
    "average_gradients",
    "average_tensors",
    "check_batches",
    "join",
    "leave",
    "rank",
    "wait_for_all",
    "world_size",
]


def join(device: str) -> None:
    """Join the group that torchrun's environment names; nothing without it, and nothing the second time.

    Raises:
        ConfigError: all processes are told one GPU, or this one's does not exist.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device != "cpu":
            own = int(os.environ.get("LOCAL_RANK", "0"))
            if device != "cuda":
                raise ConfigError(f"every process takes a GPU of its own, got device={device}", hint="device=cuda")
            check_device(f"cuda:{own}")
            torch.cuda.set_device(own)
        dist.init_process_group("gloo" if device == "cpu" else "nccl")


def leave() -> None:
    """Leave the group again, when nothing is left to exchange; nothing without one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes; 1 without a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def check_batches(batches: Sequence[int], rows_per_image: int) -> None:
    """Every process gets as many rows, and whole images of them.

    Raises:
        ConfigError: naming the batches that cannot be shared out so.
    """
    portion = world_size() * rows_per_image
    if uneven := [batch for batch in batches if batch % portion]:
        raise ConfigError(f"batches must be multiples of {portion} (processes x rows_per_image), got {uneven}")


def wait_for_all() -> None:
    """Return when every process has come here; at once without a group."""
    if world_size() > 1:
        dist.barrier()


def average_gradients(parameters: Iterable[nn.Parameter], *numbers: Tensor) -> list[Tensor]:
    """Replace every gradient by its mean over the processes, in one exchange.

    Returns:
        The means of `numbers`, scalars that ride along.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if world_size() == 1:
        return list(numbers)
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), *(number.reshape(1) for number in numbers)])
    dist.all_reduce(flat)
    flat /= world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return list(flat[start:].unbind())


def average_tensors(tensors: Sequence[Tensor]) -> None:
    """Replace tensors, the same ones in every process, by their means over the processes, in one exchange."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(mean.view_as(tensor))
