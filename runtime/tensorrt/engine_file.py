"""Engines in $SLIMPATH_CACHE: one file each, header and plan, written whole or not at all.

    16 bytes   "slimpath-engine\\n"
     8 bytes   length of the header, little-endian
    header     JSON: what the engine was built on and from, and what was found when it was checked
    plan       what TensorRT deserialises

A plan is code. So it reaches TensorRT only if the header says that it was built here, its hash is the header's, and
nobody but its owner (this user, or root) can write it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from pathlib import Path
from typing import IO

import msgspec

from ..cache import cache_folder
from ..errors import BackendError
from .fingerprint import Fingerprint

_MAGIC = b"slimpath-engine\n"
_MAX_HEADER = 1 << 20


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the comparison with ONNX Runtime on the same graph found; errors are absolute, over all outputs."""

    reference: str
    max_abs_error: float
    max_abs_reference: float
    tolerance: float
    layer_types: dict[str, int] = {}


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stripped`: the plan has no weights, and takes them from the bundle when it is loaded."""

    format: int
    file: str
    fingerprint: Fingerprint
    plan_bytes: int
    plan_sha256: str
    weight_bytes: int
    stripped: bool
    build_s: float
    checked: Checked


FORMAT = 1


def engines_folder(bundle_digest: str) -> Path:
    """Where the engines of a bundle lie; not created here."""
    return cache_folder() / "engines" / bundle_digest[:32]


def engine_path(bundle_digest: str, graph_file: str) -> Path:
    return engines_folder(bundle_digest) / f"{Path(graph_file).stem}.engine"


def timing_cache_path(fingerprint: Fingerprint) -> Path:
    """Timings of tactics hold for a device and its libraries, whatever is built."""
    return cache_folder() / "engines" / f"timing-{fingerprint.device_key}.cache"


def write_engine(path: Path, header: Header, plan: bytes) -> None:
    """Write an engine under a temporary name, then rename it.

    Raises:
        BackendError: the folder cannot be written.
    """
    encoded = msgspec.json.encode(header)
    write_private(path, _MAGIC + struct.pack("<Q", len(encoded)) + encoded, plan)


def write_private(path: Path, *parts: bytes) -> None:
    """Write a file that only its owner can read and change, whole or not at all.

    Raises:
        BackendError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BackendError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="name a folder that can be written, with room for the engines, in SLIMPATH_CACHE",
        ) from error


def read_header(path: Path) -> Header:
    """The header of an engine, without reading its plan.

    Raises:
        BackendError: no such file, not an engine of this version, or one that others could have changed.
    """
    with _open_private(path) as file:
        return _header(path, file.read(len(_MAGIC) + 8 + _MAX_HEADER))[0]


def require_ours(path: Path, here: Fingerprint) -> Header:
    """The header of an engine that was built for `here`; its plan is not read.

    Raises:
        BackendError: as for `read_header`, or it was built elsewhere or from something else.
    """
    header = read_header(path)
    differences = header.fingerprint.differences(here)
    if differences:
        raise BackendError(
            f"{path}: this engine was built for another device or bundle: {'; '.join(differences)}", hint=_AGAIN
        )
    return header


def read_private(path: Path) -> bytes:
    """A file that nobody but this user, or root, can have written.

    Raises:
        BackendError: there is none, or others can write it.
    """
    with _open_private(path) as file:
        return file.read()


def read_engine(path: Path, here: Fingerprint) -> tuple[Header, bytes]:
    """Header and plan of an engine that was built for `here`.

    Raises:
        BackendError: as for `read_header`; it was built elsewhere or from something else; or it is damaged.
    """
    header = require_ours(path, here)
    data = read_private(path)
    again, offset = _header(path, data)
    plan = data[offset:]
    if again != header or len(plan) != header.plan_bytes or hashlib.sha256(plan).hexdigest() != header.plan_sha256:
        raise BackendError(f"{path}: the engine is damaged: its plan is not the one in its header", hint=_AGAIN)
    return header, plan


def _open_private(path: Path) -> IO[bytes]:
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise BackendError(f"{path}: cannot be read: {error.strerror or error}", hint=_AGAIN) from error
    status = os.fstat(file.fileno())
    why = ""
    if not stat.S_ISREG(status.st_mode):
        why = "is not a regular file"
    elif status.st_uid not in (os.geteuid(), 0):
        why = "belongs to another user, and an engine is code"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        why = "can be written by other users, and an engine is code"
    if why:
        file.close()
        raise BackendError(f"{path}: {why}", hint="delete it, then slimpath compile again")
    return file


def _header(path: Path, data: bytes) -> tuple[Header, int]:
    """The header, and where the plan begins."""
    start = len(_MAGIC) + 8
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
        raise BackendError(f"{path}: is not an engine that slimpath wrote", hint=_AGAIN)
    (length,) = struct.unpack("<Q", data[len(_MAGIC) : start])
    try:
        if length > _MAX_HEADER:
            raise msgspec.DecodeError(f"a header of {length} bytes")
        header = msgspec.json.decode(data[start : start + length], type=Header)
        if header.format != FORMAT:
            raise msgspec.DecodeError(f"format {header.format}, expected {FORMAT}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendError(f"{path}: its header cannot be read: {error}", hint=_AGAIN) from None
    return header, start + length


_AGAIN = "build it on this device with `slimpath compile BUNDLE --backend tensorrt`"
