"""Engines are code: what was not built here by this user never reaches TensorRT."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from slimpath.runtime.errors import BackendError
from slimpath.runtime.tensorrt.cuda import DeviceFacts
from slimpath.runtime.tensorrt.engine_file import (
    FORMAT,
    Checked,
    Header,
    engine_path,
    read_engine,
    read_header,
    require_ours,
    write_engine,
    write_private,
)
from slimpath.runtime.tensorrt.fingerprint import Fingerprint, read_driver, read_l4t, take_fingerprint

HERE = Fingerprint("10.3.0", "8.7", "Orin", "540.4.0", "36.4.3", "b" * 64, "c" * 64)
PLAN = b"plan" * 100


def header_of(fingerprint: Fingerprint = HERE, **changes) -> Header:
    import hashlib

    digest = hashlib.sha256(PLAN).hexdigest()
    made = Header(FORMAT, "e.onnx", fingerprint, len(PLAN), digest, 400, False, 1.5, Checked("ort", 1e-6, 1.0, 1e-4))
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engines" / "e.engine"


def test_engine_is_read_as_it_was_written(path):
    write_engine(path, header_of(), PLAN)
    assert read_engine(path, HERE) == (header_of(), PLAN)
    assert read_header(path) == require_ours(path, HERE) == header_of()
    assert [file.name for file in path.parent.iterdir()] == ["e.engine"]
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("tensorrt", "10.16.1.11", "TensorRT 10.16.1.11, here 10.3.0"),
        ("sm", "8.9", "compute capability 8.9, here 8.7"),
        ("device", "NVIDIA L4", "device NVIDIA L4, here Orin"),
        ("driver", "550.1", "driver 550.1, here 540.4.0"),
        ("jetpack", "", "L4T release none, here 36.4.3"),
        ("bundle", "d" * 64, "bundle dddddddddddd, here bbbbbbbbbbbb"),
        ("graph", "d" * 64, "graph dddddddddddd, here cccccccccccc"),
    ],
)
def test_foreign_engine_is_refused_with_the_reason(path, field, value, words):
    write_engine(path, header_of(msgspec.structs.replace(HERE, **{field: value})), PLAN)
    with pytest.raises(BackendError, match=f"for another device or bundle: {words}; build it on this device"):
        read_engine(path, HERE)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_engine_that_others_can_write_is_refused(path, mode):
    write_engine(path, header_of(), PLAN)
    path.chmod(mode)
    with pytest.raises(BackendError, match="can be written by other users, and an engine is code"):
        read_engine(path, HERE)


def test_engine_of_another_user_is_refused(path, monkeypatch):
    write_engine(path, header_of(), PLAN)
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    else:
        os.chown(path, 12345, 12345)
    with pytest.raises(BackendError, match="belongs to another user"):
        read_engine(path, HERE)


def test_symbolic_link_is_refused(path, tmp_path):
    write_engine(tmp_path / "elsewhere.engine", header_of(), PLAN)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path / "elsewhere.engine")
    with pytest.raises(BackendError, match="cannot be read"):
        read_engine(path, HERE)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1], "is damaged: its plan is not the one"),
        (lambda data: data[:-4] + b"XXXX", "is damaged: its plan is not the one"),
        (lambda data: data + b"more", "is damaged: its plan is not the one"),
        (lambda data: b"", "is not an engine that slimpath wrote"),
        (lambda data: data[:10], "is not an engine that slimpath wrote"),
        (lambda data: b"ftrt" + data[4:], "is not an engine that slimpath wrote"),
        (lambda data: data[:16] + b"\xff" * 8 + data[24:], "its header cannot be read"),
        (lambda data: data.replace(b'"format":1', b'"format":2'), "its header cannot be read: format 2"),
        (lambda data: data.replace(b'"plan_bytes"', b'"plan_kilos"'), "its header cannot be read"),
    ],
)
def test_damaged_engine_is_refused(path, damage, words):
    write_engine(path, header_of(), PLAN)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BackendError, match=words):
        read_engine(path, HERE)


def test_failed_write_leaves_the_old_engine_and_nothing_else(path, monkeypatch):
    write_engine(path, header_of(), PLAN)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackendError, match="No space left on device; name a folder that can be written"):
        write_engine(path, header_of(build_s=9.0), PLAN)
    assert read_engine(path, HERE)[0].build_s == 1.5
    assert len(list(path.parent.iterdir())) == 1


def test_private_file_is_not_readable_by_others_even_with_an_open_umask(path):
    before = os.umask(0)
    try:
        write_private(path, b"one", b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"onetwo" and path.stat().st_mode & 0o777 == 0o600


def test_engines_of_two_bundles_lie_apart():
    assert engine_path("a" * 64, "x.onnx").parent != engine_path("b" * 64, "x.onnx").parent
    assert engine_path("a" * 64, "x.onnx").name == "x.engine"


def test_fingerprint_reads_driver_and_release_of_a_jetson(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    assert read_l4t(tmp_path) == "36.4.3" and read_driver(tmp_path) == ""
    found = take_fingerprint(
        DeviceFacts("Orin", "8.7", True, "12.6"), "10.3.0", bundle="b", graph_sha256="c", root=tmp_path
    )
    assert found == Fingerprint("10.3.0", "8.7", "Orin", "CUDA 12.6", "36.4.3", "b", "c")


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain)", "540.4.0"),
        ("something else", ""),
    ],
)
def test_driver_is_read_from_the_kernel_module(tmp_path, line, version):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(f"{line}\nGCC version:  gcc version 12.3.0\n")
    assert read_driver(tmp_path) == version
    assert read_l4t(tmp_path) == ""


def test_device_key_depends_on_the_device_and_its_libraries_only():
    other_graph = msgspec.structs.replace(HERE, graph="d" * 64, bundle="e" * 64)
    assert other_graph.device_key == HERE.device_key
    for field in ("tensorrt", "sm", "device", "driver", "jetpack"):
        assert msgspec.structs.replace(HERE, **{field: "x"}).device_key != HERE.device_key
