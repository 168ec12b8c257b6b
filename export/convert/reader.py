"""Checkpoints of other projects, read without running anything in them.

Such files are pickles, which can call any function while they load. Here nothing is called but what makes tensors and
plain containers (torch's own restricted reader); the few further names that training scripts leave in their files stand
for empty placeholders. Lengths are checked before memory is taken.
"""

import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UnsafeFileError

MAX_NAMES = 1_000_000


class Ignored:
    """Stands in for an object that a training script left behind (scores, arguments). Holds nothing, does nothing."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


#: Names in foreign pickles, and what is made instead. None of them is ever imported.
PLACEHOLDERS: tuple[tuple[Any, str], ...] = (
    (OrderedDict, "yacs.config.CfgNode"),
    (Ignored, "numpy.core.multiarray.scalar"),
    (Ignored, "numpy._core.multiarray.scalar"),
    (Ignored, "numpy.dtype"),
    (Ignored, "argparse.Namespace"),
)


def read_file(path: Path) -> dict[str, Any]:
    """What a .pth, .pt, .tar, .bin or .safetensors file holds: plain containers, numbers, texts and CPU tensors.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFileError: the file asks for code to run, is damaged, is no checkpoint, or claims more than it holds.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":  # 8 bytes of length, then JSON
        return {"model": _read_safetensors(path)}
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(list(PLACEHOLDERS)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about storages of old versions
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader raise a dozen types
        raise _refusal(path, error) from None
    if not isinstance(content, Mapping):
        raise UnsafeFileError(f"{path} is no checkpoint: expected a dictionary, got {type(content).__name__}")
    return dict(content)


def tensors_of(path: Path, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """A state dict as dense CPU tensors in fp32 (counters stay whole numbers), checked one by one.

    Raises:
        UnsafeFileError: a value is no dense tensor, is larger than the bytes behind it, or is not finite.
    """
    if len(content) > MAX_NAMES:
        raise UnsafeFileError(f"{path}: {len(content)} tensors are more than any checkpoint has")
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        where = f"{path}: tensor {str(name)[:200]!r}"
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise UnsafeFileError(f"{where} must be a dense tensor, got {type(value).__name__}")
        if value.is_quantized or value.is_complex() or value.device.type != "cpu":
            raise UnsafeFileError(f"{where} must hold plain numbers, got {value.dtype} on {value.device}")
        # A view of one number that claims to be a terabyte would be one as soon as it is copied.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UnsafeFileError(f"{where} claims {value.numel()} numbers, more than the file holds for it")
        if value.is_floating_point():
            value = value.detach().float()
            if not bool(torch.isfinite(value).all()):
                raise UnsafeFileError(f"{where} holds NaN or infinite numbers: the training had failed")
        tensors[name] = value.detach().contiguous()
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            names = file.keys()  # not iterable itself
            return {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise UnsafeFileError(f"{path} is not a whole safetensors file: {error}") from error


def _check_archive(path: Path) -> None:
    """Refuse a zip archive that is damaged or compressed; other files are left to torch's reader."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # a damaged archive makes zipfile raise half a dozen types
        raise UnsafeFileError(f"{path} is damaged: {error}; copy or download it again") from None
    # torch stores without compression: a small file never holds much.
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise UnsafeFileError(f"{path} is no checkpoint: {packed[0][:100]!r} in it is compressed; unpack it first")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise UnsafeFileError(f"{path} is damaged: its parts claim more bytes than it has")


def _refusal(path: Path, error: Exception) -> UnsafeFileError:
    # Only parts of torch's message are quoted: the rest advises to load the file without protection.
    text = " ".join(str(error).split())
    named = re.search(r"GLOBAL ([\w.]+)", text)
    foreign = named[1] if named else _foreign_name(path)
    if foreign:
        return UnsafeFileError(
            f"{path} is refused: it asks for '{foreign}', which no checkpoint needs and which may run code when it is "
            "loaded; do not load it with other tools either, unless you trust whoever made it"
        )
    reason = text.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0].partition(". ")[0]
    readable = reason.strip()[:160] if re.search("[a-z]{3}", reason) else type(error).__name__
    return UnsafeFileError(f"{path} is damaged, or no checkpoint: {readable}")


def _foreign_name(path: Path) -> str | None:
    """The first name outside torch and collections that a bare pickle asks for; nothing is loaded to find out."""
    with path.open("rb") as file:
        start = file.read(1 << 20)
    texts: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(start):
            name = None
            if "UNICODE" in operation.name:
                texts.append(str(argument))
            elif operation.name == "GLOBAL":
                name = str(argument).replace(" ", ".")
            elif operation.name == "STACK_GLOBAL":
                name = ".".join(texts[-2:])
            if name and name.partition(".")[0] not in ("torch", "collections"):
                return name
    except Exception:  # not a pickle at all, whatever the parser makes of it
        return None
    return None
