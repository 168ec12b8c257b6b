"""The table of commands: whole for every platform, commands that a shell can read, and no address of a host."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import slimpath
from slimpath.runtime.doctor.backends import KNOWN
from slimpath.runtime.doctor.installs import ANY, install, table
from slimpath.tests.packaging.test_project import PROJECT

PLATFORMS = tuple(table()["platforms"])
WORDS = {"mode": 2, "others": "onnxruntime onnxruntime-gpu", "keep": "onnxruntime-gpu==1.29.0"}
FILE = Path(slimpath.__file__).parent / "runtime" / "doctor" / "installs.json"


def test_platforms_are_those_that_a_machine_can_be():
    assert PLATFORMS == ("jetpack6", "jetpack7", "x86", "arm")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("backend", KNOWN)
def test_every_backend_can_be_had_on_every_platform(backend: str, platform: str):
    found = install(backend, platform)
    assert found is not None and found.commands and found.what


@pytest.mark.parametrize("item", sorted(table()["items"]))
def test_commands_are_shell_without_open_places(item: str):
    for platform in PLATFORMS:
        found = install(item, platform, **WORDS)
        for command in () if found is None else found.commands:
            assert subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0, command
            assert re.match(r"(\w+=\S+ )?(pip|python3|sudo|\.) ", command), command
            assert "{" not in command


def test_table_names_no_host_and_says_what_its_variables_are():
    text = FILE.read_text()
    assert "://" not in text and not re.search(r"\b[a-z0-9-]+\.(com|org|io|net|dev|ai)\b", text)
    named = set(re.findall(r"\$([A-Z_]+)", text))
    assert named == set(table()["indexes"])
    note = install("onnxruntime-cuda", "jetpack6")
    assert note is not None and any("NVIDIA's Jetson package index" in line for line in note.notes)


def test_every_entry_is_for_a_platform_that_exists():
    for name, entry in table()["items"].items():
        assert set(entry) - {"what"} <= {*PLATFORMS, ANY}, name
        for column in set(entry) - {"what"}:
            assert set(entry[column]) <= {"commands", "note"}


def test_extras_that_commands_name_exist():
    extras = set(re.findall(r"slimpath\[([a-z,]+)\]", FILE.read_text()))
    assert extras and all(re.search(rf"^{extra} = \[", PROJECT, re.MULTILINE) for extra in extras)


def test_bounds_of_commands_are_those_of_the_project():
    assert '"onnxruntime>=1.23,<2"' in PROJECT
    assert install("onnxruntime", "x86").commands == ('pip install "onnxruntime>=1.23,<2"',)  # type: ignore[union-attr]
    assert '"opencv-python-headless>=4.10.0.84,<6"' in PROJECT
    assert "opencv-python-headless>=4.10.0.84,<6" in install("opencv", "arm").commands[0]  # type: ignore[union-attr]


def test_what_nobody_needs_there_is_not_offered():
    assert install("power", "x86", mode=0) is None and install("cuda", "arm") is None
