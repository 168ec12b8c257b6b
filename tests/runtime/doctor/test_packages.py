"""Versions, bounds and doubles, held against the library that pip itself uses."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from slimpath.runtime.doctor.packages import doubles, extras, installed_versions, provider_of, requirements, unmet

NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
BOUND = st.tuples(st.sampled_from([">=", "<=", "<", ">", "==", "!="]), NUMBERS).map("".join)


@given(NUMBERS, st.lists(BOUND, max_size=3))
def test_bounds_are_kept_exactly_where_pip_says_so(version: str, bounds: list[str]):
    text = ",".join(bounds)
    broken = unmet(text, version)
    assert (broken == "") == (Version(version) in SpecifierSet(text, prereleases=True))
    assert broken == "" or broken in bounds


@given(st.text(max_size=30), st.text(max_size=10))
def test_bounds_that_make_no_sense_break_nothing(bounds: str, version: str):
    unmet(bounds, version)


def test_versions_with_a_tail_compare_by_their_numbers():
    assert unmet(">=2.13,<3", "2.13.0+cpu") == ""
    assert unmet(">=1.23,<2", "1.23.0.dev20260101") == ""
    assert unmet(">=1.26,<3", "3.0.0rc1") == "<3"


def test_requirements_of_extras_and_markers_are_not_slimpaths_own():
    lines = ["numpy<3,>=1.26", 'torch>=2.13; extra == "export"', "Typing_Extensions", "rich (>=13.8)"]
    assert requirements(lines) == {"numpy": "<3,>=1.26", "typing-extensions": "", "rich": ">=13.8"}


def test_extras_tell_what_they_lack():
    lines = [
        'onnx>=1.23; extra == "export"',
        'torch>=2.13; extra == "export"',
        'tqdm>=4; extra == "train"',
        'slimpath[export]; extra == "train"',
        'tomli>=2; python_version < "3.11" and extra == "service"',
        "numpy>=1.26",
    ]
    assert extras(lines, {"onnx": "1.23", "tqdm": "4.66"}) == {"export": ["torch"], "train": ["torch"]}


def dist_info(folder: Path, name: str, version: str) -> None:
    made = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_distributions_that_overwrite_each_other_are_found(tmp_path: Path):
    for name, version in (
        ("onnxruntime", "1.23.2"),
        ("onnxruntime-gpu", "1.23.0"),
        ("opencv-python-headless", "4.12.0.88"),
        ("numpy", "2.2.6"),
    ):
        dist_info(tmp_path, name, version)
    (tmp_path / "half_removed-1.0.dist-info").mkdir()
    installed = installed_versions([str(tmp_path)])
    assert doubles(installed) == {"onnxruntime": ["onnxruntime", "onnxruntime-gpu"]}
    assert provider_of("onnxruntime", installed) == "onnxruntime-gpu 1.23.0"
    assert provider_of("opencv", installed) == "opencv-python-headless 4.12.0.88"


def test_names_are_found_however_they_are_spelt(tmp_path: Path):
    dist_info(tmp_path, "Opencv_Python", "5.0.0")
    dist_info(tmp_path, "opencv-python-headless", "5.0.0")
    assert doubles(installed_versions([str(tmp_path)])) == {"opencv": ["opencv-python", "opencv-python-headless"]}


def test_this_environment_is_read():
    assert "numpy" in installed_versions()
