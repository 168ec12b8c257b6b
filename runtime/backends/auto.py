"""`--backend auto`: the fastest backend that gives the bundle's answers on this device, as measured.

Profiles (`slimpath calibrate`) are asked first. Where a candidate has none, all are measured for some seconds: each has
to pass the parity gate with the widest graphs, then one picture with all tasks goes through each in turn. The outcome
is kept in $SLIMPATH_CACHE/auto, for this device, bundle, threads and these versions of the libraries.

torch on the CPU is no candidate: it is the reference of exports, slower than the others, and takes seconds to import.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..cache import cache_folder
from ..errors import BackendError, SlimpathError
from ..profiling.device import read_device
from . import backend_names, make_backend
from .auto_measure import Candidate, Progress, measure, widest_graphs
from .base import Backend

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle

_GPU_BACKENDS = (
    ("tensorrt", "fp32"),
    ("tensorrt", "fp16"),
    ("onnxruntime-tensorrt", "fp32"),
    ("onnxruntime-cuda", "fp32"),
    ("torch-cuda", "fp32"),
)
_GPU_FILES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvmap")


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fastest candidate, and what it was chosen from; `source` is "profile" or "measured"."""

    chosen: str
    source: str
    candidates: tuple[Candidate, ...]


def choose_backend(
    bundle: Bundle, *, threads: int | None = None, precision: str = "fp32", progress: Progress | None = None
) -> Backend:
    """The backend that `choose` names."""
    return make_backend(choose(bundle, threads=threads, precision=precision, progress=progress).chosen, threads=threads)


def choose(
    bundle: Bundle, *, threads: int | None = None, precision: str = "fp32", progress: Progress | None = None
) -> Choice:
    """Which backend is the fastest here, measured once.

    Args:
        precision: "fp32", "bf16", or "auto" for whichever is faster; below fp32 the gate is that of parity.py.
        progress: called with what is being done, if anything has to be measured.

    Raises:
        BackendError: no backend of that precision works here.
    """
    backends = candidates(threads=threads, precision=precision)
    path = _cache_path(bundle, backends, precision)
    known = _read(path)
    if known is not None and known.chosen in {backend.name for backend in backends}:
        return known
    if len(backends) == 1:
        return _fastest([Candidate(backends[0].name, backends[0].version, 0.0, "the only one")], "measured")
    profiled = _from_profiles(bundle, backends)
    if profiled is not None:
        return profiled  # not stored: a new calibration counts at once
    found = _fastest(measure(bundle, backends, progress=progress), "measured")
    _write(path, found)
    return found


def candidates(*, threads: int | None = None, precision: str = "fp32") -> list[Backend]:
    """Backends whose libraries are here, in that precision; imports OpenVINO only for precisions below fp32.

    Raises:
        BackendError: there is none.
    """
    wanted = [("onnxruntime", "fp32")]
    if util.find_spec("openvino") is not None:
        wanted += [("openvino", "fp32"), ("openvino", "bf16")]
    if any(Path(file).exists() for file in _GPU_FILES):
        wanted += [(name, its_precision) for name, its_precision in _GPU_BACKENDS if name in backend_names()]
    made: list[Backend] = []
    for name, its_precision in wanted:
        if precision not in ("auto", its_precision):
            continue
        try:
            made.append(make_backend(name, threads=threads, precision=its_precision))
        except BackendError:  # a precision that this CPU does not have, a library that does not load
            continue
    if not made:
        raise BackendError(f"no backend here computes in {precision}", hint="use --precision fp32")
    return made


def _from_profiles(bundle: Bundle, backends: Sequence[Backend]) -> Choice | None:
    """The choice that profiles allow; None where one of the candidates has none, or none with a parity check."""
    from ..profiling.profile import Profile, conditions_of

    encoder, heads = widest_graphs(bundle)
    moe, per_task = bundle.manifest.is_moe, bundle.manifest.rows_per_task
    found: list[Candidate] = []
    for backend in backends:
        try:
            profile = Profile.find(bundle.manifest, conditions_of(bundle, backend, "packed"))
        except SlimpathError:
            return None
        checked = profile.data.parity.get(f"{backend.name}/{backend.precision}")
        if checked is None and backend.name != "onnxruntime":
            return None
        rows, top_k = len(heads) if per_task else 1, bundle.manifest.encoder.top_k if moe else 0
        parts = [profile.encoder(encoder, images=1, rows=rows, top_k=top_k)]
        parts += [profile.head(head, rows=1) for head in heads.values()]
        latencies = [part.latency_ms for part in parts]
        if checked is not None and not checked["passed"]:
            found.append(Candidate(backend.name, backend.version, None, "fails the parity gate"))
        elif None in latencies:
            return None
        else:
            found.append(Candidate(backend.name, backend.version, sum(ms for ms in latencies if ms is not None)))
    return _fastest(found, "profile")


def _fastest(found: Sequence[Candidate], source: str) -> Choice:
    able = [candidate for candidate in found if candidate.latency_ms is not None]
    if not able:
        reasons = "; ".join(f"{candidate.backend}: {candidate.why}" for candidate in found)
        raise BackendError(f"no backend works here: {reasons}")
    return Choice(min(able, key=lambda candidate: candidate.latency_ms or 0.0).backend, source, tuple(found))


def _cache_path(bundle: Bundle, backends: Sequence[Backend], precision: str) -> Path:
    parts = (read_device().key, precision, [(b.name, b.version, b.threads) for b in backends])
    name = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
    return cache_folder() / "auto" / bundle.digest / f"{name}.json"


def _read(path: Path) -> Choice | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Choice)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # unreadable is as good as absent: it is measured again


def _write(path: Path, choice: Choice) -> None:
    """Keep it; where the cache cannot be written it is measured again next time."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(choice), indent=1) + b"\n")
        temporary.replace(path)
    except OSError:
        return
