from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from safetensors.numpy import load_file

from slimpath.runtime.bundles import bundle as bundle_module
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.errors import BundleError, GraphError, ManifestError, SizeError, TaskError, WeightsError

GRAPH = "encoder-32x48-w1.onnx"


def change_manifest(bundle: Path, change) -> None:
    document = json.loads((bundle / "manifest.json").read_bytes())
    change(document)
    (bundle / "manifest.json").write_text(json.dumps(document))


def replace_graph(bundle: Path, data: bytes, file: str = GRAPH) -> None:
    """A hostile exporter: the graph is changed, and the manifest agrees."""
    (bundle / file).write_bytes(data)

    def change(document) -> None:
        (graph,) = (g for g in document["graphs"] if g["file"] == file)
        graph.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    change_manifest(bundle, change)


def redirect(bundle: Path, **entries: str) -> None:
    """Point the first external tensor of a graph elsewhere."""
    model = onnx.ModelProto.FromString((bundle / GRAPH).read_bytes())
    tensor = next(t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    for entry in tensor.external_data:
        entry.value = entries.get(entry.key, entry.value)
    replace_graph(bundle, model.SerializeToString())


def test_bundle_opens_with_its_manifest_graphs_and_tensors(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    assert bundle.digest == hashlib.sha256((tiny_bundle / "manifest.json").read_bytes()).hexdigest()
    graph = bundle.graph("head", (32, 48), 0.5, "depth")
    assert graph.file == "head-depth-32x48-w0.5.onnx"
    assert bundle.graph_bytes(graph) == (tiny_bundle / graph.file).read_bytes()
    for name, expected in load_file(tiny_bundle / "weights.safetensors").items():
        np.testing.assert_array_equal(bundle.tensor(name), expected)


def test_relative_path_stays_valid_when_the_working_directory_changes(tiny_bundle, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_bundle.parent)
    bundle = Bundle.open(tiny_bundle.name)
    monkeypatch.chdir(tmp_path)
    assert bundle.path == tiny_bundle.resolve()


def test_opening_writes_nothing_into_the_bundle(copied_bundle):
    before = sorted((p.name, p.stat().st_mtime_ns) for p in copied_bundle.iterdir())
    Bundle.open(copied_bundle, verify=True)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in copied_bundle.iterdir()) == before


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(BundleError, match="a bundle is a folder, here is nothing"):
        Bundle.open(tmp_path / "none")


def test_file_in_place_of_a_bundle_is_refused(tiny_bundle):
    with pytest.raises(BundleError, match="a bundle is a folder, here is a file"):
        Bundle.open(tiny_bundle / "manifest.json")


def test_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"manifest.json: this file of the bundle is missing"):
        Bundle.open(tmp_path)


def test_manifest_error_names_the_file(copied_bundle):
    (copied_bundle / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match=r"manifest\.json: the manifest is not JSON"):
        Bundle.open(copied_bundle)


def test_unknown_schema_version_is_refused_before_anything_else(copied_bundle):
    change_manifest(copied_bundle, lambda document: document.update(schema_version=7, tasks="another shape"))
    with pytest.raises(ManifestError, match=r"schema_version 7 .* reads \(1\); upgrade slimpath"):
        Bundle.open(copied_bundle)


@pytest.mark.parametrize(("file", "error"), [(GRAPH, GraphError), ("weights.safetensors", WeightsError)])
def test_missing_file_is_refused_by_name(copied_bundle, file, error):
    (copied_bundle / file).unlink()
    with pytest.raises(error, match=f"{file}: this file of the bundle is missing"):
        Bundle.open(copied_bundle)


@pytest.mark.parametrize(("file", "error"), [(GRAPH, GraphError), ("weights.safetensors", WeightsError)])
def test_truncated_file_is_refused_by_its_size(copied_bundle, file, error):
    data = (copied_bundle / file).read_bytes()
    (copied_bundle / file).write_bytes(data[:-10])
    with pytest.raises(error, match=f"{file}: has {len(data) - 10} bytes, the manifest says {len(data)}"):
        Bundle.open(copied_bundle)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("file", "error"), [(GRAPH, GraphError), ("weights.safetensors", WeightsError)])
def test_changed_byte_is_found_by_the_hash(copied_bundle, file, error):
    flip(copied_bundle / file, -1)
    with pytest.raises(error, match=f"{file}: its SHA-256 is not the one in the manifest"):
        Bundle.open(copied_bundle)


def test_changed_header_of_the_weights_is_found(copied_bundle):
    path = copied_bundle / "weights.safetensors"
    data = path.read_bytes().replace(b'"detail"', b'"detour"')
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="header is not the one in the manifest"):
        Bundle.open(copied_bundle)


@pytest.fixture
def hashed(monkeypatch) -> list[Path]:
    calls: list[Path] = []
    real = bundle_module.file_sha256
    monkeypatch.setattr(bundle_module, "file_sha256", lambda path: calls.append(path) or real(path))
    return calls


def test_weights_are_hashed_at_first_sight_and_then_remembered(copied_bundle, hashed):
    for _ in range(3):
        Bundle.open(copied_bundle)
    assert len(hashed) == 1
    Bundle.open(copied_bundle, verify=True)
    assert len(hashed) == 2


def test_weights_with_a_new_time_stamp_are_hashed_again(copied_bundle, hashed):
    Bundle.open(copied_bundle)
    flip(copied_bundle / "weights.safetensors", -1)
    os.utime(copied_bundle / "weights.safetensors", ns=(1, 1))
    with pytest.raises(WeightsError, match="SHA-256"):
        Bundle.open(copied_bundle)
    assert len(hashed) == 2


def test_damage_that_keeps_the_time_stamp_is_found_by_verify(copied_bundle):
    path = copied_bundle / "weights.safetensors"
    Bundle.open(copied_bundle)
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(before, before))
    Bundle.open(copied_bundle)
    with pytest.raises(WeightsError, match="SHA-256"):
        Bundle.open(copied_bundle, verify=True)


def test_cache_that_cannot_be_written_only_costs_the_hash(copied_bundle, hashed, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SLIMPATH_CACHE", str(tmp_path / "file"))
    Bundle.open(copied_bundle)
    Bundle.open(copied_bundle)
    assert len(hashed) == 2


def test_cache_lies_in_the_xdg_folder_by_default(copied_bundle, monkeypatch, tmp_path):
    monkeypatch.delenv("SLIMPATH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    Bundle.open(copied_bundle)
    assert len(list((tmp_path / "xdg" / "slimpath" / "verified").iterdir())) == 1


def make_link(copied_bundle: Path, file: str, link) -> None:
    outside = copied_bundle.parent / file
    (copied_bundle / file).rename(outside)
    link(outside, copied_bundle / file)


@pytest.mark.parametrize(
    ("file", "error"), [("weights.safetensors", WeightsError), (GRAPH, GraphError), ("manifest.json", ManifestError)]
)
def test_symbolic_link_is_refused_with_advice(copied_bundle, file, error):
    make_link(copied_bundle, file, os.symlink)
    with pytest.raises(error, match=f"{file}: is a symbolic link.*; copy the file there, or make a hard link"):
        Bundle.open(copied_bundle)


@pytest.mark.parametrize("file", ["weights.safetensors", GRAPH, "manifest.json"])
def test_hard_link_is_accepted(copied_bundle, file):
    make_link(copied_bundle, file, os.link)
    assert Bundle.open(copied_bundle).manifest.name == "tiny"


def test_bundle_reached_through_a_linked_folder_is_accepted(tiny_bundle, tmp_path):
    os.symlink(tiny_bundle, tmp_path / "link")
    assert Bundle.open(tmp_path / "link").path == tiny_bundle.resolve()


@pytest.mark.parametrize(
    ("file", "error"), [("weights.safetensors", WeightsError), (GRAPH, GraphError), ("manifest.json", ManifestError)]
)
def test_member_that_is_no_regular_file_is_refused(copied_bundle, file, error):
    (copied_bundle / file).unlink()
    os.mkfifo(copied_bundle / file)
    assert stat.S_ISFIFO((copied_bundle / file).stat().st_mode)
    with pytest.raises(error, match="not a regular file"):
        Bundle.open(copied_bundle)


@pytest.mark.parametrize("location", ["../weights.safetensors", "/etc/passwd", "other.safetensors"])
def test_external_data_outside_the_weights_are_refused(copied_bundle, location):
    redirect(copied_bundle, location=location)
    with pytest.raises(GraphError, match=rf"{GRAPH}: tensor 'patch' has its data in '{location}', outside"):
        Bundle.open(copied_bundle)


def test_external_data_past_the_end_are_refused(copied_bundle):
    redirect(copied_bundle, offset="999999")
    with pytest.raises(GraphError, match=r"'patch' has its data at bytes 999999 to"):
        Bundle.open(copied_bundle)


def test_graph_that_is_no_graph_is_refused(copied_bundle):
    replace_graph(copied_bundle, b"not a graph at all")
    with pytest.raises(GraphError, match=f"{GRAPH}: not a whole ONNX file"):
        Bundle.open(copied_bundle)


def test_router_that_the_weights_lack_is_refused(copied_bundle):
    change_manifest(copied_bundle, lambda d: d["encoder"]["routers"]["edge"].update(weights=["router.none"]))
    with pytest.raises(WeightsError, match=r"has no tensor 'router.none'"):
        Bundle.open(copied_bundle)


def test_asking_for_a_graph_that_is_not_there_says_what_is(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(TaskError, match="unknown task 'segmentation'; this bundle has semseg"):
        bundle.graph("head", (32, 48), 1.0, "segmentation")
    with pytest.raises(SizeError, match=r"no graphs for size \(64, 64\)"):
        bundle.graph("encoder", (64, 64), 1.0)
    with pytest.raises(BundleError, match=r"no encoder graph of width 0.3; there are 0.5, 1"):
        bundle.graph("encoder", (32, 48), 0.3)


def test_missing_bundled_model_is_said_clearly(monkeypatch, tmp_path):
    elsewhere = tmp_path / "runtime" / "bundles" / "bundled.py"
    monkeypatch.setattr("slimpath.runtime.bundles.bundled.__file__", str(elsewhere))
    with pytest.raises(BundleError, match=r"no bundled model at .*m3vit_nano; install slimpath from its wheel"):
        bundled_path()
    folder = tmp_path / "assets" / "m3vit_nano"
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()
    assert bundled_path() == folder


def test_graph_is_found_in_its_precision_and_a_head_else_in_fp32(copied_bundle):
    manifest = json.loads((copied_bundle / "manifest.json").read_text())
    encoder = next(g for g in manifest["graphs"] if g["kind"] == "encoder")
    shutil.copy(copied_bundle / encoder["file"], copied_bundle / "int8.onnx")
    manifest["graphs"].append({**encoder, "file": "int8.onnx", "precision": "int8"})
    (copied_bundle / "manifest.json").write_text(json.dumps(manifest))
    bundle, size_hw = Bundle.open(copied_bundle), tuple(encoder["size_hw"])
    assert bundle.graph("encoder", size_hw, encoder["width"], precision="int8").file == "int8.onnx"
    assert bundle.graph("encoder", size_hw, encoder["width"]).file == encoder["file"]
    assert bundle.graph("head", size_hw, 1.0, "depth", precision="int8").precision == "fp32"
    with pytest.raises(BundleError, match="no encoder graph in bf16; this bundle has fp32, int8"):
        bundle.graph("encoder", size_hw, 1.0, precision="bf16")
