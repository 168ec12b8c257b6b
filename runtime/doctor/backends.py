"""Each backend of slimpath on this machine: usable, missing, broken, or without its device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .installs import Install, install
from .machine import Machine
from .packages import provider_of
from .probes import Probe

Status = Literal["usable", "missing", "broken", "no device"]


@dataclass(frozen=True)
class Verdict:
    """One backend.

    Args:
        detail: what makes it usable, or why it is not.
        fix: how to get it, where it can be had.
    """

    name: str
    status: Status
    detail: str
    version: str = ""
    fix: Install | None = None


@dataclass(frozen=True)
class Evidence:
    """What the verdicts are reached from.

    Args:
        installed: distributions of this Python, name -> version.
        modules: names of top-level modules that can be found here, by distribution or by the system.
        probes: library -> what came of trying it out; only of modules that were found.
        answer: whether the default backend answered a picture.
    """

    machine: Machine
    installed: Mapping[str, str]
    modules: frozenset[str]
    probes: Mapping[str, Probe] = field(default_factory=dict)
    answer: Probe = field(default_factory=Probe)


def judge(evidence: Evidence, names: tuple[str, ...]) -> list[Verdict]:
    """A verdict for each backend that slimpath knows here.

    Args:
        names: as `runtime.backends.backend_names` gives them, without "auto".
    """
    return [_JUDGES.get(name, _unknown)(name, evidence) for name in names]


def _onnxruntime(name: str, evidence: Evidence) -> Verdict:
    found = evidence.probes.get("onnxruntime")
    version = provider_of("onnxruntime", evidence.installed)
    if found is None:
        return _verdict(name, "missing", "ONNX Runtime is not installed", evidence)
    if found.error:
        return _verdict(name, "broken", found.error, evidence, version)
    if evidence.answer.error or not evidence.answer.found.get("finite"):
        reason = evidence.answer.error or "the bundled model's answer is not finite"
        return _verdict(name, "broken", f"loads, but gives no answer: {reason}", evidence, version)
    detail = f"answers: {evidence.answer.found['tasks']} tasks in {evidence.answer.found['ms']:.0f} ms (smallest)"
    return _verdict(name, "usable", detail, evidence, version or found.version)


def _ort_provider(name: str, evidence: Evidence) -> Verdict:
    key = name.removeprefix("onnxruntime-")
    provider = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[key]
    version = provider_of("onnxruntime", evidence.installed)
    if not evidence.machine.nvidia_gpu:
        return Verdict(name, "no device", "no NVIDIA GPU", version)
    found = evidence.probes.get("onnxruntime")
    if found is None or (not found.error and provider not in found.found.get("providers", ())):
        have = "ONNX Runtime is not installed" if found is None else f"this build has no {provider}"
        return _verdict("onnxruntime-cuda", "missing", have, evidence, version, called=name)
    if found.error:
        return _verdict("onnxruntime-cuda", "broken", found.error, evidence, version, called=name)
    refusal = found.found.get("loads", {}).get(key, "")
    if refusal:
        return _verdict(name, "broken", refusal, evidence, version)
    return Verdict(name, "usable", f"{provider} loads; not run here", version)


def _library(name: str, evidence: Evidence) -> Verdict:
    found = evidence.probes.get(name)
    if found is None:
        return _verdict(name, "missing", "not installed", evidence)
    if found.error:
        return _verdict(name, "broken", found.error, evidence, evidence.installed.get(name, ""))
    devices = found.found.get("devices") or []
    detail = f"loads; devices {', '.join(devices)}" if name == "openvino" else "loads"
    return Verdict(name, "usable", detail, found.version)


def _torch_cuda(name: str, evidence: Evidence) -> Verdict:
    if not evidence.machine.nvidia_gpu:
        return Verdict(name, "no device", "no NVIDIA GPU", evidence.installed.get("torch", ""))
    found = evidence.probes.get("torch")
    if found is None:
        return _verdict(name, "missing", "not installed", evidence)
    if found.error:
        return _verdict(name, "broken", found.error, evidence, evidence.installed.get("torch", ""))
    if not found.found.get("cuda"):
        return _verdict(name, "missing", "this build of torch is for the CPU", evidence, found.version)
    if not found.found.get("devices"):
        detail = f"built for CUDA {found.found['cuda']}, but finds no device: its driver may be too old"
        return _verdict(name, "broken", detail, evidence, found.version)
    return Verdict(name, "usable", f"runs on {', '.join(found.found['devices'])}", found.version)


def _tensorrt(name: str, evidence: Evidence) -> Verdict:
    if not evidence.machine.nvidia_gpu:
        return Verdict(name, "no device", "no NVIDIA GPU", evidence.installed.get("tensorrt", ""))
    found = evidence.probes.get("tensorrt")
    if found is not None and not found.error:
        return Verdict(name, "usable", "loads; engines are built by `slimpath compile`", found.version)
    if found is not None:
        return _verdict(name, "broken", found.error, evidence, evidence.installed.get("tensorrt", ""))
    if evidence.machine.tensorrt and evidence.machine.in_venv:
        detail = f"the system has TensorRT {evidence.machine.tensorrt}; this environment does not see its Python module"
        return _verdict("environment", "missing", detail, evidence, called=name)
    return _verdict(name, "missing", "not installed", evidence)


def _unknown(name: str, evidence: Evidence) -> Verdict:
    return Verdict(name, "missing", "another package's backend, which is not tried out here")


def _verdict(
    item: str, status: Status, detail: str, evidence: Evidence, version: str = "", *, called: str = ""
) -> Verdict:
    """A verdict with the commands of `item`, under that name or the one that it is called by."""
    fix = None if status == "usable" else install(item, evidence.machine.platform)
    return Verdict(called or item, status, detail, version, fix)


_JUDGES: dict[str, Callable[[str, Evidence], Verdict]] = {
    "onnxruntime": _onnxruntime,
    "onnxruntime-cuda": _ort_provider,
    "onnxruntime-tensorrt": _ort_provider,
    "openvino": _library,
    "tensorrt": _tensorrt,
    "torch": _library,
    "torch-cuda": _torch_cuda,
}
KNOWN = tuple(_JUDGES)
