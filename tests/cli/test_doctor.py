"""`slimpath doctor` as it is typed: right here, and of use where everything is missing."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from slimpath.cli import doctor as verb_module
from slimpath.runtime.doctor import diagnose as module
from slimpath.runtime.doctor.backends import Evidence
from slimpath.runtime.doctor.diagnose import Report, conclude
from slimpath.runtime.doctor.machine import read_machine
from slimpath.runtime.doctor.probes import Probe
from slimpath.tests.runtime.device_trees import unpack

QUICK = ("onnxruntime", "cv2")  # the others take seconds; tests/runtime/doctor tries all of them
HEAVY = ("numpy", "cv2", "onnxruntime", "torch", "openvino", "msgspec")


def test_this_machine_is_ready(slimpath: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PROBED", QUICK)
    shown = slimpath("doctor")
    assert shown.exit_code == 0, shown.stdout
    assert platform.machine() in shown.stdout and platform.python_version() in shown.stdout
    assert shown.stdout.splitlines()[-1] == "ready"


def test_nothing_that_could_crash_is_imported_here_and_json_is_one_document():
    code = (
        "import sys; from slimpath.cli.app import app; from slimpath.runtime.doctor import diagnose\n"
        f"diagnose._PROBED = {QUICK!r}\n"
        "try: app(['doctor', '--json'])\n"
        "except SystemExit as end: code = end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr.strip() == "[] 0"
    assert json.loads(done.stdout)["ready"] is True


def jetson(tmp_path: Any, **changed: Any) -> Callable[..., Report]:
    """A diagnosis of a bare Orin Nano in place of this machine's."""
    machine = read_machine(unpack("orin-nano-jetpack6", tmp_path / "root"), architecture="aarch64", in_venv=True)
    found = Evidence(machine, {}, frozenset(), {}, Probe(error="not installed"))

    def diagnose(backend: str = "onnxruntime", **options: Any) -> Report:
        return conclude(found, backend, ["numpy>=1.26", "onnxruntime>=1.23", 'openvino; extra == "openvino"'], None, "")

    return diagnose


def test_bare_jetson_is_told_what_to_type(slimpath: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "diagnose", jetson(tmp_path))
    shown = slimpath("doctor")
    assert shown.exit_code == 2
    lines = shown.stdout.splitlines()
    assert lines[-1] == "not ready: see the problems above"
    assert "module        Orin, SM 8.7, p3767-0005" in lines
    assert "JetPack       6.2.1 (Linux for Tegra 36.4.4)" in lines
    assert "power mode    25W" in lines
    assert lines[lines.index("problem: numpy is not installed") + 1] == '    pip install "numpy>=1.26"'
    assert '    pip install "onnxruntime==1.23.*"' in lines
    assert "to get openvino, OpenVINO:" in lines and "extra openvino  without openvino" in lines
    machine = slimpath("doctor", "--json")
    assert machine.exit_code == 2 and json.loads(machine.stdout)["machine"]["platform"] == "jetpack6"


def test_unknown_backend_is_refused_in_one_line(slimpath: Callable[..., Any]):
    shown = slimpath("doctor", "--backend", "abacus")
    assert shown.exit_code == 2
    assert shown.stderr.strip() == (
        "slimpath: unknown backend 'abacus'; this version has " + ", ".join(module.known_backends())
    )


def test_backend_without_its_device_makes_the_machine_not_ready(
    slimpath: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "diagnose", jetson(tmp_path))
    shown = slimpath("doctor", "--backend", "tensorrt")
    assert shown.exit_code == 2 and "problem: the backend tensorrt is missing" in shown.stdout


def test_rows_that_nothing_is_known_of_are_left_out(tmp_path: Any):
    machine = read_machine(tmp_path)
    rows = dict(verb_module._machine_rows(Report(machine, [], {}, {}, {}, [], None)))
    assert "CUDA" not in rows and "now" not in rows and rows["NVIDIA GPU"] == "none"
