from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slimpath.runtime.bundles.manifest import Manifest, encode_manifest, read_manifest
from slimpath.runtime.errors import ManifestError


@pytest.fixture
def document(tiny_bundle: Path) -> dict[str, Any]:
    return json.loads((tiny_bundle / "manifest.json").read_bytes())


def read(document: object) -> Manifest:
    return read_manifest(json.dumps(document).encode())


def test_manifest_survives_the_round_trip_byte_for_byte(tiny_bundle):
    data = (tiny_bundle / "manifest.json").read_bytes()
    assert encode_manifest(read_manifest(data)) == data


@pytest.mark.parametrize("version", [0, 2, 99])
def test_unknown_schema_version_names_the_readable_ones(document, version):
    with pytest.raises(
        ManifestError, match=rf"schema_version {version} is not one that this build reads \(1\)"
    ) as caught:
        read({**document, "schema_version": version, "from_the_future": True})
    assert ("upgrade" in caught.value.hint) == (version > 1)


@pytest.mark.parametrize("data", [b"", b"{", b"not json", b"\xff\xfe", b"[" * 100_000])
def test_manifest_that_is_not_json_is_refused(data):
    with pytest.raises(ManifestError, match=r"not JSON|no usable schema_version"):
        read_manifest(data)


@pytest.mark.parametrize("data", [b"[]", b"3", b"{}", b'{"schema_version": "1"}', b'{"schema_version": null}'])
def test_json_without_a_schema_version_is_refused(data):
    with pytest.raises(ManifestError, match="no usable schema_version"):
        read_manifest(data)


def test_unknown_field_is_refused_by_name(document):
    document["encoder"]["flavour"] = 1
    with pytest.raises(ManifestError, match=r"unknown field `flavour` - at `\$.encoder`"):
        read(document)


def test_missing_field_is_refused_by_name(document):
    del document["weights"]["sha256"]
    with pytest.raises(ManifestError, match=r"`sha256` - at `\$.weights`"):
        read(document)


def test_struct_of_wrong_types_is_never_encoded(document):
    manifest: Any = read(document)
    with pytest.raises(ManifestError):
        encode_manifest(msgspec.structs.replace(manifest, name=3))


def test_value_that_is_not_a_number_is_never_encoded(document):
    manifest: Any = read(document)
    broken = msgspec.structs.replace(manifest.accuracies[0], value=math.nan)
    with pytest.raises(ManifestError):
        encode_manifest(msgspec.structs.replace(manifest, accuracies=(broken,)))


def _set(*path: Any, to: object) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


CONTRADICTIONS = {
    "tasks.*at least one": _set("tasks", to=[]),
    r"tasks\[depth\].*listed once": _set("tasks", 0, "name", to="depth"),
    "named by letters": _set("tasks", 0, "name", to="../semseg"),
    r"tasks\[depth\].channels": _set("tasks", 1, "channels", to=2),
    "at most 256": _set("tasks", 0, "channels", to=300),
    "classes.*5 entries": _set("tasks", 0, "classes", to=["one"]),
    "palette.*5 entries": _set("tasks", 0, "palette", to=[[1, 2, 3]]),
    "RGB from 0 to 255": _set("tasks", 0, "palette", to=[[1, 2, 3]] * 4 + [[0, 0, 256]]),
    "sizes.*multiples of the patch, 16": _set("sizes", 0, to=[33, 48]),
    "sizes.*without repeats": _set("sizes", 1, to=[32, 48]),
    "widths.*ascending": _set("widths", to=[1.0, 0.5]),
    "widths.*above 0": _set("widths", to=[0.0, 1.0]),
    "widths.*at most 1": _set("widths", to=[0.5, 1.5]),
    "preprocessing.std": _set("preprocessing", "std", to=[0.2, 0.0, 0.2]),
    "pad_rgb": _set("preprocessing", "pad_rgb", to=[0, 0, 256]),
    "encoder.dim": _set("encoder", "dim", to=0),
    "encoder.moe_blocks": _set("encoder", "moe_blocks", to=[7]),
    "encoder.top_k.*1 to 4": _set("encoder", "top_k", to=5),
    "one entry per task": _set("encoder", "routers", to={}),
    r"routers\[edge\].weights.*1 names": _set("encoder", "routers", "edge", "weights", to=["a", "b"]),
    r"graphs\[1\].task.*one of": _set("graphs", 1, "task", to="segmentation"),
    r"graphs\[0\].task.*null": _set("graphs", 0, "task", to="depth"),
    r"graphs\[0\].size_hw": _set("graphs", 0, "size_hw", to=[64, 64]),
    r"graphs\[0\].width.*one of": _set("graphs", 0, "width", to=0.3),
    r"graphs\[0\].bytes": _set("graphs", 0, "bytes", to=-1),
    r"graphs\[0\].cost": _set("graphs", 0, "cost", "flops_image", to=-5),
    r"graphs\[0\].sha256.*hex": _set("graphs", 0, "sha256", to="abc"),
    r"graphs\[0\].file.*of its own": _set("graphs", 0, "file", to="weights.safetensors"),
    "one graph per kind": _set("graphs", 2, "task", to="semseg"),
    "weights.bytes": _set("weights", "bytes", to=3),
    r"graphs\[0\].precision.*short name": _set("graphs", 0, "precision", to="INT 8"),
    "encoders of widths": _set("graphs", 0, "precision", to="int8"),
    r"accuracies\[0\].size_hw.*null or one of": _set("accuracies", 0, "size_hw", to=[64, 64]),
    r"accuracies\[0\].precision": _set("accuracies", 0, "precision", to=""),
    r"accuracies\[0\].task": _set("accuracies", 0, "task", to="segmentation"),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_contradiction_is_named(document, message):
    CONTRADICTIONS[message](document)
    with pytest.raises(ManifestError, match=message):
        read(document)


@pytest.mark.parametrize("name", ["", ".", "..", "../weights.onnx", "/etc/passwd", "a/b.onnx", "a\\b", "C:x", "a\0b"])
def test_file_name_that_leads_elsewhere_is_refused(document, name):
    for holder in (document["graphs"][3], document["weights"]):
        before, holder["file"] = holder["file"], name
        with pytest.raises(ManifestError, match="bare file name"):
            read(document)
        holder["file"] = before


def test_task_without_a_head_is_refused(document):
    document["graphs"] = [g for g in document["graphs"] if (g["task"], g["size_hw"]) != ("edge", [32, 32])]
    with pytest.raises(ManifestError, match=r"head for every task.*none for edge"):
        read(document)


def test_missing_encoder_width_is_refused(document):
    document["graphs"] = document["graphs"][1:]
    with pytest.raises(ManifestError, match="encoders of widths"):
        read(document)


def test_manifest_from_before_precisions_reads_as_fp32_of_the_first_size(document):
    for graph in document["graphs"]:
        del graph["precision"]
    for accuracy in document["accuracies"]:
        del accuracy["precision"], accuracy["size_hw"]
    manifest = read(document)
    assert {graph.precision for graph in manifest.graphs} == {"fp32"} and manifest.precisions == ("fp32",)
    assert {(a.precision, a.size_hw) for a in manifest.accuracies} == {("fp32", None)}


def test_graph_in_another_precision_lies_beside_the_fp32_one(document):
    document["graphs"].append({**document["graphs"][0], "precision": "int8", "file": "int8.onnx"})
    assert read(document).precisions == ("fp32", "int8")
    document["graphs"].append({**document["graphs"][-1], "file": "int8-again.onnx"})
    with pytest.raises(ManifestError, match="one graph per kind, size, width, task and precision"):
        read(document)
