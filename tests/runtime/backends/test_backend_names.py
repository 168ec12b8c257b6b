from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from slimpath.runtime import backends
from slimpath.runtime.backends import backend_names, make_backend
from slimpath.runtime.errors import BackendError


def _plugin(*, threads: int | None = None, precision: str = "fp32") -> object:
    """A backend of another package."""
    return ("plugin", threads, precision)


@pytest.fixture
def entries(monkeypatch):
    """Entry points of the group, as other packages declare them."""

    def declare(**values: str) -> None:
        found = [EntryPoint(name, value, backends.ENTRY_POINTS) for name, value in values.items()]
        monkeypatch.setattr(backends, "_entry_points", lambda: found)

    return declare


def test_backends_of_other_packages_are_found_by_entry_point(entries):
    entries(mine=f"{__name__}:_plugin")
    assert "mine" in backend_names()
    assert make_backend("mine", threads=2, precision="bf16") == ("plugin", 2, "bf16")
    assert make_backend("mine-bf16") == ("plugin", None, "bf16")


def test_another_package_cannot_take_the_place_of_our_own(entries):
    entries(onnxruntime=f"{__name__}:_plugin")
    assert backend_names().count("onnxruntime") == 1
    assert make_backend("onnxruntime", threads=1).name == "onnxruntime"


def test_backend_that_cannot_be_imported_says_what_to_install(entries):
    entries(torch="slimpath.no_such_module:Backend", other="no_such_package:Backend")
    with pytest.raises(BackendError, match=r"'torch' cannot be imported: .*pip install \"slimpath\[export\]\""):
        make_backend("torch")
    with pytest.raises(BackendError, match="'other' cannot be imported: No module named 'no_such_package'"):
        make_backend("other")


def test_unknown_backend_lists_those_of_other_packages_too(entries):
    entries(mine=f"{__name__}:_plugin")
    with pytest.raises(BackendError, match=r"unknown backend 'theirs'; this version has onnxruntime, .*mine, auto"):
        make_backend("theirs")


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-cuda"])
def test_precision_that_a_library_does_not_have_is_refused(name):
    with pytest.raises(BackendError, match=f"{name} computes in fp32, not in bf16; use --backend openvino"):
        make_backend(name, precision="bf16")
    assert make_backend(name, precision="auto", threads=1).precision == "fp32"


def test_name_with_a_precision_contradicting_the_other_is_refused():
    with pytest.raises(BackendError, match="'openvino-bf16' computes in bf16, and auto was asked for"):
        make_backend("openvino-bf16", precision="auto")
    assert make_backend("onnxruntime-fp32", threads=1).name == "onnxruntime"


def test_auto_without_a_bundle_is_refused():
    with pytest.raises(BackendError, match='"auto" is chosen by measuring a bundle'):
        make_backend("auto")
