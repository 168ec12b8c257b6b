"""A library that crashes, hangs or lies is a finding: the process that asks goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpath.runtime.doctor.probes import Probe, probe, probe_all


def interpreter(tmp_path: Path, script: str) -> str:
    """Something that is run in Python's place."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("kill -SEGV $$", "crashed: SIGSEGV"),
        ("kill -ILL $$", "crashed: SIGILL"),  # NumPy built for another CPU
        ("echo 'ImportError: libcudart.so.12: cannot open' >&2; exit 1", "ImportError: libcudart.so.12: cannot open"),
        ("exit 3", "exit code 3"),
        ("echo hello", "printed something else than its findings"),
        ("exec sleep 60", "did not answer within 0 s"),
    ],
)
def test_library_that_fails_is_told_in_one_line(tmp_path: Path, script: str, error: str):
    assert probe("onnxruntime", python=interpreter(tmp_path, script), timeout_s=0.3) == Probe(error=error)


def test_interpreter_that_is_not_there_is_told(tmp_path: Path):
    assert "does not start" in probe("onnxruntime", python=str(tmp_path / "none")).error


def test_what_a_library_prints_besides_does_not_matter(tmp_path: Path):
    script = """echo 'loading...'; echo '{"version": "9"}'"""
    assert probe("torch", python=interpreter(tmp_path, script)).version == "9"


def test_library_that_is_not_installed_is_an_import_error():
    found = probe("tensorrt")
    assert found.error == "" or "No module named 'tensorrt'" in found.error or "tensorrt" in found.error.lower()


def test_installed_libraries_tell_their_versions_and_the_bundled_model_answers():
    import onnxruntime

    calls = [("onnxruntime",), ("cv2",), ("answer", "onnxruntime")]
    found = probe_all(calls)
    assert [found[call].error for call in calls] == ["", "", ""]
    assert found[("onnxruntime",)].version == onnxruntime.__version__
    assert "CPUExecutionProvider" in found[("onnxruntime",)].found["providers"]
    assert isinstance(found[("cv2",)].found["window"], bool)
    answer = found[("answer", "onnxruntime")].found
    assert answer["finite"] and answer["tasks"] == 6 and answer["ms"] > 0
