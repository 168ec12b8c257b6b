"""Where a training runs: on the CPU, or on a GPU of torch's numbering."""

from __future__ import annotations

import torch

from .errors import ConfigError

__all__ = ["check_device", "device_type", "gpu_numbers", "is_present"]


def device_type(device: str) -> str:
    """What `torch.autocast` is told: "cuda" of "cuda:1" too, which it would refuse."""
    return device.partition(":")[0]


def is_present(device: str) -> bool:
    """Is it the CPU, or a GPU that torch finds here?"""
    kind, colon, number = device.partition(":")
    if kind != "cuda":
        return device == "cpu"
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return (number.isdecimal() and int(number) < found) if colon else found > 0


def check_device(device: str) -> None:
    """Refuse a device before anything is built.

    Raises:
        ConfigError: torch does not find it here.
    """
    if not is_present(device):
        raise ConfigError(
            f"device must be cpu, or cuda where torch finds one, got '{device}'",
            hint="device=cpu works everywhere",
        )


def gpu_numbers(device: str) -> list[int]:
    """The GPU whose random numbers a training draws; none on the CPU."""
    if device == "cpu":
        return []
    number = torch.device(device).index
    return [torch.cuda.current_device() if number is None else number]
