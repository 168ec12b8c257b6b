"""install.sh: clean by shellcheck, and what it would do on recorded devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import slimpath
from slimpath.tests.runtime.device_trees import put, unpack

SCRIPT = Path(slimpath.__file__).parent / "deploy" / "jetson" / "install.sh"


def install(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLIMPATH_INSTALL_ROOT": str(root), "JETSON_INDEX": "", **variables}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def commands(root: Path, *arguments: str, **variables: str) -> list[str]:
    done = install(root, "--dry-run", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_shellcheck_has_nothing_to_say():
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_jetson_gets_an_environment_that_sees_jetpacks_modules(tmp_path: Path):
    planned = commands(unpack("orin-nano-jetpack6", tmp_path))
    assert "python3 -m venv --system-site-packages /opt/slimpath/venv" in planned
    assert planned[-1] == "/opt/slimpath/venv/bin/slimpath doctor --backend onnxruntime"


def test_other_machines_get_a_closed_environment(tmp_path: Path):
    planned = commands(tmp_path)
    assert "python3 -m venv /opt/slimpath/venv" in planned


def test_cuda_replaces_the_build_for_the_cpu(tmp_path: Path):
    nano, thor = unpack("orin-nano-jetpack6", tmp_path / "nano"), unpack("agx-thor-jetpack7", tmp_path / "thor")
    six, seven = (
        [line for line in commands(root, "--backend", "cuda", JETSON_INDEX="INDEX") if "onnxruntime" in line]
        for root in (nano, thor)
    )
    assert "uninstall -y onnxruntime" in six[0] and "uninstall -y onnxruntime" in seven[0]
    assert six[1].endswith("--index-url INDEX onnxruntime-gpu") and seven[1].endswith("onnxruntime-gpu>=1.29,<2")
    assert six[-1].endswith("doctor --backend onnxruntime-cuda")


def test_tensorrt_is_the_systems(tmp_path: Path):
    planned = commands(unpack("agx-orin-jetpack6", tmp_path), "--backend", "tensorrt")
    assert any(line.startswith("apt-get install") and "python3-libnvinfer" in line for line in planned)
    assert not any("pip" in line and "tensorrt" in line for line in planned)


def test_settings_of_the_owner_stay(tmp_path: Path):
    assert any("slimpath.env" in line for line in commands(tmp_path))
    put(tmp_path, "/etc/slimpath/slimpath.env", "SLIMPATH_SOURCE=0")
    assert not any("slimpath.env" in line for line in commands(tmp_path))


def test_without_services_no_user_and_no_unit_is_made(tmp_path: Path):
    planned = commands(tmp_path, "--no-services", "--prefix", "/srv/slimpath")
    assert not any(word in line for line in planned for word in ("useradd", "systemctl", "/etc/systemd"))
    assert "mkdir -p /srv/slimpath" in planned


def test_files_that_are_installed_exist(tmp_path: Path):
    copied = [line.split()[4] for line in commands(tmp_path) if line.startswith("install -D")]
    assert len(copied) == 4 and all(Path(path).is_file() for path in copied)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backend", "abacus"], "--backend must be cpu, cuda, tensorrt or openvino, got abacus"),
        (["--backend"], "--backend needs a value"),
        (["--from", "/no/such.whl"], "/no/such.whl: no such wheel or folder"),
        (["--prefix", "here", "--no-services"], "--prefix must be absolute"),
        (["--prefix", "/srv"], "--prefix needs --no-services"),
        (["--sideways"], "unknown option --sideways"),
        (["--backend", "tensorrt"], "slimpath doctor --backend tensorrt"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path: Path, arguments: list[str], says: str):
    done = install(tmp_path, "--dry-run", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("install.sh: ") and says in done.stderr and done.stderr.count("\n") == 1


def test_jetpack_5_is_refused(tmp_path: Path):
    put(tmp_path, "/etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref")
    done = install(tmp_path, "--dry-run")
    assert done.returncode == 2 and "R35 is not supported" in done.stderr


def test_cuda_on_jetpack_6_needs_the_index(tmp_path: Path):
    done = install(unpack("orin-nano-jetpack6", tmp_path), "--dry-run", "--backend", "cuda")
    assert done.returncode == 2 and "set JETSON_INDEX" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="this is root")
def test_only_root_may_install(tmp_path: Path):
    assert "needs root" in install(tmp_path).stderr


def test_help_tells_every_option():
    shown = subprocess.run(["bash", str(SCRIPT), "--help"], capture_output=True, text=True, check=True).stdout
    for option in ("--from", "--backend", "--prefix", "--no-services", "--dry-run", "JETSON_INDEX"):
        assert option in shown
