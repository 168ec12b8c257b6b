"""What a profile says, as it lies in $SLIMPATH_CACHE/profiles/<bundle's digest>/<key>.json: data, no arithmetic."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from ..cache import cache_folder
from ..errors import ProfileError
from .device import Device

SCHEMA_VERSION = 1
MAX_PROFILE_BYTES = 64 << 20


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a profile holds for. Anything different, and its figures say nothing.

    Args:
        bundle_digest: of `Bundle.digest`; another one is another bundle, or another version of it.
        threads: of each session; 0 where the backend decides.
        tier: "packed" or "mapped".
    """

    bundle_name: str
    bundle_digest: str
    device: Device
    backend: str
    backend_version: str
    threads: int
    tier: str

    @property
    def key(self) -> str:
        """Name of the file beside the other profiles of the bundle."""
        parts = (self.device.key, self.backend, self.backend_version, self.threads, self.tier)
        return f"{self.backend}-{hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]}"

    def differences(self, now: Conditions) -> list[str]:
        """Why a profile of these conditions is not one of those; empty where it is."""
        found = []
        if self.bundle_digest != now.bundle_digest:
            same = self.bundle_name == now.bundle_name
            found.append(f"it is of another {'version of the bundle' if same else f'bundle, {self.bundle_name}'}")
        found += [f"the device's {text}" for text in self.device.differences(now.device)]
        for name in ("backend", "backend_version", "threads", "tier"):
            before, after = getattr(self, name), getattr(now, name)
            if before != after:
                found.append(f"{name.replace('_', ' ')} was {before}, is {after}")
        return found


class GraphPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One graph, run in one way, measured.

    Args:
        graph: its file.
        top_k: 0 for heads, and for encoders without experts.
        latency_ms: median of a run.
        p95_ms: 95th percentile of a run.
        runs: how many of them were timed.
        activations_mb: peak beside the weights; None is unmeasured.
        power_w: mean power above idle while it runs; None is unmeasured.
    """

    graph: str
    images: int
    rows: int
    top_k: int
    latency_ms: float
    p95_ms: float
    runs: int
    activations_mb: float | None = None
    power_w: float | None = None


class PreprocessPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Preprocessing a picture of one size for a plane of another."""

    image_hw: tuple[int, int]
    size_hw: tuple[int, int]
    latency_ms: float


class PostprocessPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turning a head's output into a Result's array."""

    task: str
    size_hw: tuple[int, int]
    latency_ms: float


class CallPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole `engine()` call, measured.

    Args:
        fitted: whether the fixed part of a call was fitted to it; the others tell how good predictions are.
        predicted_ms: by the finished profile.
    """

    image_hw: tuple[int, int]
    size_hw: tuple[int, int]
    encoder_width: float
    top_k: int
    decoder_widths: dict[str, float]
    precision: str
    latency_ms: float
    p95_ms: float
    runs: int
    fitted: bool
    predicted_ms: float = 0.0


class CallFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """latency of a call = call_ms + tasks * task_ms + factor * (sum of the parts measured alone).

    The factor is not 1: inside a call a graph finds other things in the caches than where it runs again and again.
    """

    call_ms: float = 0.0
    task_ms: float = 0.0
    factor: float = 1.0


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much to trust the figures.

    Args:
        rounds: of measuring; `rounds_kept` of them were quiet.
        drift: slowest over fastest round, of those that were kept.
        others_busy: share of the CPUs that other processes used meanwhile; None is unknown.
        points_possible: how many there are; what was not measured is modelled.
        median_error: of predicted whole calls that nothing was fitted to; None if there are none.
        p95_error: likewise.
    """

    seconds: float
    rounds: int
    rounds_kept: int
    drift: float
    others_busy: float | None
    points_possible: int
    median_error: float | None = None
    p95_error: float | None = None


class ProfileData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that calibration measured.

    Args:
        created: UTC, ISO 8601.
        headroom: p95 over median of whole calls.
        meter: which sensors measured energy; "" for none, and `no_meter` says why.
        idle_w: power of the idle device, which is taken off.
        call_power_w: mean power above idle of whole calls; None is unmeasured.
        load_ms: graph file -> how long it took to load.
        parity: "backend/precision" -> what the backend's parity check found (`BackendParity`), as plain data.
    """

    schema_version: int
    slimpath_version: str
    created: str
    conditions: Conditions
    graphs: tuple[GraphPoint, ...]
    preprocessing: tuple[PreprocessPoint, ...]
    postprocessing: tuple[PostprocessPoint, ...]
    calls: tuple[CallPoint, ...]
    fit: CallFit
    headroom: float
    quality: Quality
    meter: str = ""
    no_meter: str = ""
    idle_w: float | None = None
    call_power_w: float | None = None
    load_ms: dict[str, float] = {}
    parity: dict[str, Any] = {}


def profile_folder(bundle_digest: str) -> Path:
    """Where the profiles of a bundle lie; not created here."""
    return cache_folder() / "profiles" / bundle_digest


def write_profile(data: ProfileData) -> Path:
    """Store a profile where `Profile.find` looks; whole or not at all.

    Raises:
        ProfileError: the cache cannot be written.
    """
    folder = profile_folder(data.conditions.bundle_digest)
    path = folder / f"{data.conditions.key}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".profile-", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise ProfileError(
            f"{folder}: the profile cannot be written: {error.strerror or error}",
            hint="name a folder that can be written in SLIMPATH_CACHE",
        ) from None
    return path


def read_profile(path: Path) -> ProfileData:
    """Read a stored profile.

    Raises:
        ProfileError: it cannot be read, or is not one that this version reads.
    """
    try:
        if path.stat().st_size > MAX_PROFILE_BYTES:
            raise ProfileError(f"{path}: no profile has over {MAX_PROFILE_BYTES >> 20} MB", hint=_AGAIN)
        data = msgspec.json.decode(path.read_bytes(), type=ProfileData)
    except OSError as error:
        raise ProfileError(f"{path}: the profile cannot be read: {error.strerror or error}", hint=_AGAIN) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise ProfileError(f"{path}: not a profile that this version reads: {error}", hint=_AGAIN) from None
    if data.schema_version != SCHEMA_VERSION:
        raise ProfileError(
            f"{path}: a profile of schema {data.schema_version}, this version reads {SCHEMA_VERSION}", hint=_AGAIN
        )
    return data


_AGAIN = "measure again with `slimpath calibrate`"
