"""The whole diagnosis: the machine, the backends, what is wrong, and whether slimpath can work here."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ..cache import cache_folder
from ..health.reading import Reading, Sensors
from .backends import KNOWN, Evidence, Verdict, judge
from .installs import Install, install
from .machine import Machine, read_machine
from .packages import OPTIONAL, doubles, extras, installed_versions, normal, requirements, unmet
from .probes import Probe, probe_all

DEFAULT = "onnxruntime"
PYTHON = (3, 10)
FREE_MB = 600  # the bundled model with every width open, and Python
# Distributions of which another build does as well: the module to look for, and the line of the table of commands.
_ANY_BUILD = {"onnxruntime": ("onnxruntime", "onnxruntime"), "opencv-python-headless": ("cv2", "opencv")}
_PROBED = ("onnxruntime", "cv2", "openvino", "torch", "tensorrt")


@dataclass(frozen=True)
class Finding:
    """Something to know: a problem keeps slimpath, or the backend that was asked for, from working; advice does not."""

    level: Literal["problem", "advice"]
    text: str
    fix: Install | None = None


@dataclass(frozen=True)
class Report:
    """What `slimpath doctor` found.

    Args:
        libraries: distribution -> version, of those that slimpath works with.
        extras: slimpath's extra -> distributions that it lacks here.
        opencv: what OpenCV was built with: "window", "gstreamer", "ffmpeg"; empty where it does not load.
        health: heat, brakes and power now; None where the machine shows none.
    """

    machine: Machine
    backends: list[Verdict]
    libraries: dict[str, str]
    extras: dict[str, list[str]]
    opencv: dict[str, bool]
    findings: list[Finding]
    health: Reading | None

    @property
    def ready(self) -> bool:
        """Is there nothing that keeps slimpath from working?"""
        return all(finding.level != "problem" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As one document of plain values."""
        return {
            "ready": self.ready,
            "machine": {**asdict(self.machine), "platform": self.machine.platform},
            "backends": [asdict(verdict) for verdict in self.backends],
            "libraries": self.libraries,
            "extras": self.extras,
            "opencv": self.opencv,
            "findings": [asdict(finding) for finding in self.findings],
            "health": None if self.health is None else self.health.to_json(),
        }


def diagnose(backend: str = DEFAULT, *, on_progress: Callable[[str], None] = lambda what: None) -> Report:
    """Look at this machine and try its libraries out. Takes some seconds, most of them for importing torch.

    Args:
        backend: that has to be usable for the machine to be ready.
        on_progress: called with what is being done.
    """
    on_progress("looking at the machine")
    machine, installed = read_machine(), installed_versions()
    modules = frozenset(name for name in _PROBED if _found(name))
    on_progress(f"trying {', '.join(sorted(modules))}")
    calls = [(name,) for name in _PROBED if name in modules]
    trials = probe_all([*calls, ("answer", DEFAULT)] if DEFAULT in modules else calls)
    probes = {call[0]: found for call, found in trials.items() if len(call) == 1}
    answer = trials.get(("answer", DEFAULT), Probe(error="ONNX Runtime is not installed"))
    evidence = Evidence(machine, installed, modules, probes, answer)
    sensors = Sensors(gpu=machine.jetson is not None)
    health = sensors.read() if sensors else None
    return conclude(evidence, backend, own_requirements(), health, cache_refusal())


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a package whose own files are damaged
        return False


def conclude(
    evidence: Evidence, backend: str, own: Sequence[str], health: Reading | None, cache_problem: str
) -> Report:
    """The report that this evidence leads to.

    Args:
        backend: that has to be usable.
        own: slimpath's requirements, as its metadata lists them.
        cache_problem: why nothing can be kept, "" where it can.
    """
    machine, installed, needed = evidence.machine, evidence.installed, requirements(own)
    verdicts = judge(evidence, known_backends())
    findings = [
        *_python(machine),
        *_needs(evidence, needed),
        *_double(evidence),
        *_backend(verdicts, backend),
        *_device(machine, health),
        *_camera(evidence),
    ]
    if cache_problem:
        hint = "engines and profiles cannot be kept: name a folder that can be written in SLIMPATH_CACHE"
        findings.append(Finding("advice", f"{cache_problem}; {hint}"))
    wanted = dict.fromkeys([*needed, *(name for group in doubles(installed).values() for name in group), *OPTIONAL])
    libraries = {name: installed[name] for name in wanted if name in installed}
    findings.sort(key=lambda finding: finding.level != "problem")
    return Report(machine, verdicts, libraries, extras(own, installed), _opencv(evidence), findings, health)


def own_requirements() -> list[str]:
    """What slimpath and its extras need, as its metadata lists it; empty where it was not installed but copied."""
    try:
        return metadata.requires("slimpath") or []
    except metadata.PackageNotFoundError:
        return []


def cache_refusal(folder: Path | None = None) -> str:
    """Why nothing can be written to the cache; "" where it can."""
    path = cache_folder() if folder is None else folder
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return ""
    except OSError as error:
        return f"{path}: {error.strerror or error}"


def known_backends() -> tuple[str, ...]:
    """slimpath's backends and those of other packages. Not asked of `runtime.backends`: that imports NumPy, which
    may be what is missing, or what crashes."""
    others = (entry.name for entry in metadata.entry_points(group="slimpath.backends"))
    return tuple(dict.fromkeys((*KNOWN, *others)))


def _python(machine: Machine) -> list[Finding]:
    version = tuple(int(part) for part in machine.python.split(".")[:2])
    if version >= PYTHON:
        return []
    needed = ".".join(map(str, PYTHON))
    text = f"Python {needed} or newer is needed, this is {machine.python}"
    return [Finding("problem", text, install("python", machine.platform))]


def _needs(evidence: Evidence, needed: Mapping[str, str]) -> list[Finding]:
    """Requirements that are missing or out of range. Any build of ONNX Runtime or OpenCV stands for the one named."""
    found: list[Finding] = []
    platform, installed = evidence.machine.platform, evidence.installed
    for name, bounds in needed.items():
        module, item = _ANY_BUILD.get(name, ("", ""))
        trial = evidence.probes.get(module)
        version = installed.get(normal(name)) or ("" if trial is None else trial.version)
        fix = install(item, platform) if item else Install(name, (f'pip install "{name}{bounds}"',))
        if not version and module not in evidence.modules:
            found.append(Finding("problem", f"{name} is not installed", fix))
        elif version and (broken := unmet(bounds, version)):
            # The system's own OpenCV may be older than any wheel that slimpath is tested with, and yet do.
            level = "advice" if module == "cv2" and normal(name) not in installed else "problem"
            found.append(Finding(level, f"{name} {version} is installed, {broken} is needed", fix))
        elif module == "cv2" and trial is not None and trial.error:
            found.append(Finding("problem", f"OpenCV is broken: {trial.error}", fix))
    return found


def _double(evidence: Evidence) -> list[Finding]:
    found: list[Finding] = []
    for group, names in doubles(evidence.installed).items():
        gpu = [name for name in names if name.endswith("-gpu")]
        keep = (gpu or names)[-1] if evidence.machine.nvidia_gpu or group == "opencv" else names[0]
        others = " ".join(name for name in names)
        versions = {evidence.installed[name] for name in names}
        fix = install(
            f"double-{group}", evidence.machine.platform, others=others, keep=f"{keep}=={evidence.installed[keep]}"
        )
        # Two builds of one OpenCV release differ in their windows only; two of ONNX Runtime in what they run on.
        level = "advice" if group == "opencv" and len(versions) == 1 else "problem"
        listed = " and ".join(f"{name} {evidence.installed[name]}" for name in names)
        found.append(Finding(level, f"{listed} overwrite each other's files", fix))
    return found


def _backend(verdicts: Sequence[Verdict], backend: str) -> list[Finding]:
    for verdict in verdicts:
        if verdict.name == backend and verdict.status != "usable":
            return [Finding("problem", f"the backend {backend} is {_words(verdict)}", verdict.fix)]
    return []


def _words(verdict: Verdict) -> str:
    return (
        f"without a device: {verdict.detail}"
        if verdict.status == "no device"
        else f"{verdict.status}: {verdict.detail}"
    )


def _opencv(evidence: Evidence) -> dict[str, bool]:
    found = evidence.probes.get("cv2", Probe()).found
    return {name: bool(found[name]) for name in ("window", "gstreamer", "ffmpeg") if name in found}


def _camera(evidence: Evidence) -> list[Finding]:
    """A Jetson's CSI cameras come through GStreamer, which the builds of the package index are without."""
    if evidence.machine.jetson is None or _opencv(evidence).get("gstreamer", True):
        return []
    fix = install("opencv-gstreamer", evidence.machine.platform)
    return [Finding("advice", "this OpenCV has no GStreamer, which CSI cameras come through", fix)]


def _device(machine: Machine, health: Reading | None) -> list[Finding]:
    found: list[Finding] = []
    if 0 < machine.free_mb < FREE_MB:
        found.append(Finding("advice", f"{machine.free_mb} MB of memory are free; {FREE_MB} MB are comfortable"))
    if health is not None and health.throttled:
        found.append(Finding("advice", f"the device is slowed down now: {health.text()}"))
    jetson = machine.jetson
    if jetson is None:
        return found
    if jetson.l4t and not machine.cuda:
        found.append(Finding("advice", "CUDA is not installed", install("cuda", machine.platform)))
    best = jetson.unlimited_mode
    if best is not None and jetson.power_mode and jetson.power_mode != best[1]:
        fix = install("power", machine.platform, mode=best[0])
        found.append(Finding("advice", f"the power mode is {jetson.power_mode}; {best[1]} is the fastest", fix))
    return found
