"""What the findings lead to: on recorded Jetsons, with libraries as their probes found them, and on this machine."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from slimpath.runtime.backends import AUTO, backend_names
from slimpath.runtime.doctor.backends import KNOWN, Evidence, judge
from slimpath.runtime.doctor.diagnose import (
    FREE_MB,
    Report,
    cache_refusal,
    conclude,
    diagnose,
    known_backends,
    own_requirements,
)
from slimpath.runtime.doctor.machine import Machine, read_machine
from slimpath.runtime.doctor.packages import requirements
from slimpath.runtime.doctor.probes import Probe
from slimpath.runtime.health.reading import Sensors
from slimpath.tests.runtime.device_trees import put, unpack

OWN = [
    "numpy<3,>=1.26",
    "onnxruntime<2,>=1.23",
    "opencv-python-headless<6,>=4.10.0.84",
    'openvino>=2025.2; extra == "openvino"',
]
INSTALLED = {"numpy": "2.2.6", "onnxruntime": "1.23.2", "opencv-python-headless": "4.12.0.88"}
PROBES = {
    "onnxruntime": Probe({"version": "1.23.2", "providers": ["CPUExecutionProvider"], "loads": {}}),
    "cv2": Probe({"version": "4.12.0"}),
}
ANSWER = Probe({"tasks": 6, "finite": True, "ms": 31.0, "first_s": 0.4})


@pytest.fixture
def nano(tmp_path: Path) -> Machine:
    return read_machine(
        unpack("orin-nano-jetpack6", tmp_path), architecture="aarch64", python="3.10.12", glibc="2.35", in_venv=True
    )


def evidence(machine: Machine, **changed: Any) -> Evidence:
    found = Evidence(machine, INSTALLED, frozenset(PROBES), PROBES, ANSWER)
    return dataclasses.replace(found, **changed)


def report(found: Evidence, backend: str = "onnxruntime", **changed: Any) -> Report:
    options = {"own": OWN, "health": None, "cache_problem": "", **changed}
    return conclude(found, backend, **options)


def problems(made: Report) -> list[str]:
    return [finding.text for finding in made.findings if finding.level == "problem"]


def commands(made: Report) -> list[str]:
    return [line for finding in made.findings if finding.fix for line in finding.fix.commands]


def verdict(found: Evidence, name: str) -> tuple[str, str]:
    made = judge(found, (name,))[0]
    assert made.name == name
    assert made.status == "usable" or made.status == "no device" or made.fix is not None
    return made.status, made.detail


def test_backends_known_here_are_those_of_the_runtime():
    assert set(known_backends()) == {name for name in backend_names() if name != AUTO} | set(KNOWN)


def test_fresh_jetson_is_ready_and_told_of_its_power_mode(nano: Machine):
    made = report(evidence(nano))
    assert made.ready and problems(made) == []
    assert "the power mode is 25W; MAXN_SUPER is the fastest" in [finding.text for finding in made.findings]
    assert "sudo nvpmodel -m 2" in commands(made)


def test_nothing_installed_gives_the_command_for_each(nano: Machine):
    made = report(evidence(nano, installed={}, modules=frozenset(), probes={}, answer=Probe(error="not installed")))
    assert not made.ready
    assert problems(made) == [
        "numpy is not installed",
        "onnxruntime is not installed",
        "opencv-python-headless is not installed",
        "the backend onnxruntime is missing: ONNX Runtime is not installed",
    ]
    assert 'pip install "onnxruntime==1.23.*"' in commands(made)  # the newest for Python 3.10
    assert made.libraries == {}


def test_version_out_of_range_is_a_problem(nano: Machine):
    made = report(evidence(nano, installed={**INSTALLED, "onnxruntime": "1.19.2"}))
    assert problems(made) == ["onnxruntime 1.19.2 is installed, >=1.23 is needed"]


def test_systems_own_opencv_may_be_older_than_any_wheel(nano: Machine):
    installed = {name: version for name, version in INSTALLED.items() if not name.startswith("opencv")}
    made = report(evidence(nano, installed=installed, probes={**PROBES, "cv2": Probe({"version": "4.8.0"})}))
    assert made.ready
    assert "opencv-python-headless 4.8.0 is installed, >=4.10.0.84 is needed" in [one.text for one in made.findings]


def test_gpu_build_stands_for_the_plain_one(nano: Machine):
    installed = {"numpy": "2.2.6", "onnxruntime-gpu": "1.23.0", "opencv-contrib-python": "4.12.0.88"}
    assert report(evidence(nano, installed=installed)).ready


def test_double_onnxruntime_is_a_problem_and_the_gpu_one_is_kept_where_there_is_a_gpu(nano: Machine):
    installed = {**INSTALLED, "onnxruntime-gpu": "1.23.0"}
    made = report(evidence(nano, installed=installed))
    assert problems(made) == ["onnxruntime 1.23.2 and onnxruntime-gpu 1.23.0 overwrite each other's files"]
    assert commands(made)[:2] == [
        "pip uninstall -y onnxruntime onnxruntime-gpu",
        'pip install --force-reinstall --no-deps "onnxruntime-gpu==1.23.0"',
    ]
    no_gpu = dataclasses.replace(nano, nvidia_gpu=False)
    assert '"onnxruntime==1.23.2"' in commands(report(evidence(no_gpu, installed=installed)))[1]


@pytest.mark.parametrize(("version", "ready"), [("4.12.0.88", True), ("4.10.0.84", False)])
def test_double_opencv_is_advice_only_where_both_are_the_same_release(nano: Machine, version: str, ready: bool):
    made = report(evidence(nano, installed={**INSTALLED, "opencv-python": version}))
    assert made.ready == ready
    assert any("opencv-python-headless" in finding.text for finding in made.findings)


def test_backend_that_was_asked_for_has_to_be_usable(nano: Machine):
    made = report(evidence(nano), "onnxruntime-cuda")
    assert problems(made) == ["the backend onnxruntime-cuda is missing: this build has no CUDAExecutionProvider"]
    assert 'pip install --index-url "$JETSON_INDEX" onnxruntime-gpu' in commands(made)


def with_ort(nano: Machine, **found: Any) -> Evidence:
    return evidence(nano, probes={**PROBES, "onnxruntime": Probe({"version": "1.23.0", **found})})


def test_cuda_provider_is_usable_where_its_libraries_load(nano: Machine):
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    found = with_ort(nano, providers=providers, loads={"cuda": "", "tensorrt": "libnvinfer.so.10: no such file"})
    assert verdict(found, "onnxruntime-cuda")[0] == "usable"
    assert verdict(found, "onnxruntime-tensorrt") == ("broken", "libnvinfer.so.10: no such file")


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "torch-cuda"])
def test_machine_without_a_gpu_needs_no_command_for_one(nano: Machine, name: str):
    found = evidence(dataclasses.replace(nano, nvidia_gpu=False))
    assert verdict(found, name) == ("no device", "no NVIDIA GPU")


def test_library_that_crashes_is_broken_and_takes_nothing_with_it(nano: Machine):
    crash = Probe(error="crashed: SIGILL")
    probes = dict.fromkeys(("onnxruntime", "openvino", "torch", "tensorrt", "cv2"), crash)
    found = evidence(nano, probes=probes, modules=frozenset(probes))
    for name in KNOWN:
        assert verdict(found, name) == ("broken", "crashed: SIGILL")
    made = report(found)
    assert "OpenCV is broken: crashed: SIGILL" in problems(made)


def test_library_that_loads_but_does_not_answer_is_broken(nano: Machine):
    for answer in (Probe(error="BackendError: no space"), Probe({**ANSWER.found, "finite": False})):
        status, detail = verdict(evidence(nano, answer=answer), "onnxruntime")
        assert status == "broken" and detail.startswith("loads, but gives no answer: ")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"version": "2.5", "cuda": "", "devices": []}, "missing"),
        ({"version": "2.5", "cuda": "12.6", "devices": []}, "broken"),
        ({"version": "2.5", "cuda": "12.6", "devices": ["Orin"]}, "usable"),
    ],
)
def test_torch_for_cuda_has_to_be_built_for_it_and_find_a_device(nano: Machine, found: dict[str, Any], status: str):
    assert verdict(evidence(nano, probes={"torch": Probe(found)}), "torch-cuda")[0] == status


def test_environment_that_hides_the_systems_tensorrt_is_told(nano: Machine):
    status, detail = verdict(evidence(nano), "tensorrt")
    assert status == "missing" and "TensorRT 10.3.0.30; this environment does not see" in detail
    made = judge(evidence(nano), ("tensorrt",))[0]
    assert made.fix is not None and "python3 -m venv --system-site-packages .venv" in made.fix.commands
    outside = dataclasses.replace(nano, in_venv=False)
    assert verdict(evidence(outside), "tensorrt") == ("missing", "not installed")


def test_python_of_jetpack_5_is_too_old(nano: Machine):
    made = report(evidence(dataclasses.replace(nano, python="3.8.10")))
    assert problems(made) == ["Python 3.10 or newer is needed, this is 3.8.10"]


def test_heat_memory_and_a_cache_that_cannot_be_written_are_advice(nano: Machine, tmp_path: Path):
    sensors = Sensors(tmp_path, gpu=True)
    put(tmp_path, "/sys/class/thermal/cooling_device5/cur_state", 1)
    full = dataclasses.replace(nano, free_mb=FREE_MB - 1)
    made = report(evidence(full), health=sensors.read(), cache_problem="/cache: Read-only file system")
    said = " / ".join(finding.text for finding in made.findings)
    assert made.ready and f"{FREE_MB - 1} MB of memory are free" in said and "gpu held back to 80 %" in said
    assert "/cache: Read-only file system" in said and "SLIMPATH_CACHE" in said


def test_csi_cameras_need_gstreamer(nano: Machine):
    for has, told in ((False, 1), (True, 0)):
        probes = {**PROBES, "cv2": Probe({"version": "4.12.0", "window": False, "gstreamer": has, "ffmpeg": True})}
        made = report(evidence(nano, probes=probes))
        assert sum("no GStreamer" in finding.text for finding in made.findings) == told and made.ready
        assert made.opencv == {"window": False, "gstreamer": has, "ffmpeg": True}


def test_cuda_that_is_not_installed_is_advice_on_a_jetson(nano: Machine):
    made = report(evidence(dataclasses.replace(nano, cuda="")))
    assert made.ready and "CUDA is not installed" in [finding.text for finding in made.findings]


def test_cache_is_tried_by_writing(tmp_path: Path):
    assert cache_refusal(tmp_path / "new" / "cache") == ""
    (tmp_path / "file").write_text("")
    assert "file" in cache_refusal(tmp_path / "file" / "cache")


def test_report_is_plain_json(nano: Machine):
    document = json.loads(json.dumps(report(evidence(nano)).to_json()))
    assert document["ready"] is True and document["machine"]["jetson"]["jetpack"] == "6.2.1"
    assert document["machine"]["platform"] == "jetpack6" and document["extras"] == {"openvino": ["openvino"]}
    assert {row["name"] for row in document["backends"]} == set(known_backends())


def test_this_machine_is_diagnosed_as_it_is():
    import onnxruntime

    steps: list[str] = []
    made = diagnose(on_progress=steps.append)
    by_name = {found.name: found for found in made.backends}
    assert made.ready, problems(made)
    assert by_name["onnxruntime"].status == "usable" and onnxruntime.__version__ in by_name["onnxruntime"].version
    assert made.libraries["numpy"] and set(requirements(own_requirements())) <= set(made.libraries)
    for extra, library in (("openvino", "openvino"), ("export", "torch")):
        assert (made.extras[extra] == []) == (find_spec(library) is not None), extra
    assert steps[0] == "looking at the machine" and len(steps) == 2
