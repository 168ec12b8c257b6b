"""Opening packs: whole ones, and damaged, foreign or hostile ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.encoder_spec import RouterSpec
from slimpath.runtime.bundles.manifest import MANIFEST_FILE, PACK_FILE, encode_manifest
from slimpath.runtime.errors import BundleError, GraphError, PackError, WeightsError
from slimpath.runtime.packs.extend import extend
from slimpath.runtime.packs.manifest import base_sha256, read_pack_manifest
from slimpath.runtime.packs.pack import Pack
from slimpath.runtime.tasks import TaskSpec
from slimpath.tests.runtime.tiny_pack import LAYOUT, build_tiny_pack, rewrite


@pytest.fixture
def pack(tiny_bundle: Path, tmp_path: Path) -> Path:
    """To damage."""
    return build_tiny_pack(tmp_path / "layout", tiny_bundle)


def test_a_whole_pack_says_what_it_adds(pack: Path, tiny_bundle: Path) -> None:
    opened = Pack.open(pack, verify=True)
    assert opened.task == LAYOUT
    assert opened.manifest.base.name == "tiny"
    assert opened.manifest.parameters.in_encoder == 36
    assert len({graph.file for graph in opened.graphs}) == 4
    assert all(opened.digest[:16] in graph.file for graph in opened.graphs)


def test_the_base_is_the_same_after_its_accuracies_were_measured_again(copied_bundle: Path) -> None:
    manifest = Bundle.open(copied_bundle).manifest
    before = base_sha256(manifest)
    (copied_bundle / MANIFEST_FILE).write_bytes(encode_manifest(msgspec.structs.replace(manifest, accuracies=())))
    assert base_sha256(Bundle.open(copied_bundle).manifest) == before


def test_other_weights_or_encoders_are_another_base(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    weights = msgspec.structs.replace(manifest.weights, sha256="0" * 64)
    graphs = (msgspec.structs.replace(manifest.graphs[0], sha256="1" * 64), *manifest.graphs[1:])
    others = [msgspec.structs.replace(manifest, weights=weights), msgspec.structs.replace(manifest, graphs=graphs)]
    assert len({base_sha256(manifest), *map(base_sha256, others)}) == 3


@pytest.mark.parametrize("file", ["weights.safetensors", "head-layout-32x48-w1.onnx"])
def test_a_changed_byte_is_found(pack: Path, file: str) -> None:
    data = bytearray((pack / file).read_bytes())
    data[-1] ^= 1
    (pack / file).write_bytes(data)
    with pytest.raises(GraphError if file.endswith(".onnx") else WeightsError, match="changed"):
        Pack.open(pack)


@pytest.mark.parametrize("file", ["weights.safetensors", "head-layout-32x32-w0.5.onnx", PACK_FILE])
def test_a_missing_file_is_named(pack: Path, file: str) -> None:
    (pack / file).unlink()
    with pytest.raises(BundleError, match=file):
        Pack.open(pack)


@pytest.mark.parametrize("file", ["weights.safetensors", PACK_FILE])
def test_a_symbolic_link_is_refused(pack: Path, tmp_path: Path, file: str) -> None:
    (pack / file).replace(tmp_path / "elsewhere")
    (pack / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        Pack.open(pack)


def test_a_head_that_reads_another_file_is_refused(pack: Path, tiny_bundle: Path) -> None:
    rewrite(pack, weights=msgspec.structs.replace(Pack.open(pack).manifest.weights, file="others.safetensors"))
    (pack / "weights.safetensors").rename(pack / "others.safetensors")
    with pytest.raises(GraphError, match="outside the bundle's weights file"):
        Pack.open(pack)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"pack_version": 99}', "upgrade slimpath"),
        ('{"pack_version": 0}', "train it again"),
        ('{"pack_version": 1}', "does not fit version 1"),
    ],
)
def test_a_pack_json_that_cannot_be_used_says_why(pack: Path, text: str, said: str) -> None:
    (pack / PACK_FILE).write_text(text)
    with pytest.raises(PackError, match=said):
        Pack.open(pack)


def _with_file(manifest: Any, name: str) -> dict[str, Any]:
    return {"graphs": (msgspec.structs.replace(manifest.graphs[0], file=name), *manifest.graphs[1:])}


@pytest.mark.parametrize("name", ["../head.onnx", "/etc/passwd", "", ".", "a:b", PACK_FILE, "weights.safetensors"])
def test_file_names_that_lead_elsewhere_are_refused(pack: Path, name: str) -> None:
    rewrite(pack, **_with_file(Pack.open(pack).manifest, name))
    with pytest.raises(PackError, match=r"bare name|a file of its own"):
        Pack.open(pack)


def test_heads_of_other_tasks_are_refused(pack: Path) -> None:
    graphs = Pack.open(pack).manifest.graphs
    rewrite(pack, graphs=(msgspec.structs.replace(graphs[0], task="depth"), *graphs[1:]))
    with pytest.raises(PackError, match="heads of its task 'layout' alone"):
        Pack.open(pack)


def test_an_unknown_field_is_refused(pack: Path) -> None:
    document = json.loads((pack / PACK_FILE).read_text())
    (pack / PACK_FILE).write_text(json.dumps({**document, "run_this": "please"}))
    with pytest.raises(PackError, match="run_this"):
        Pack.open(pack)


def test_a_tensor_that_is_named_and_missing_is_refused(pack: Path) -> None:
    rewrite(pack, router=RouterSpec(("router.layout",), ("router_bias.nothing",)))
    with pytest.raises(WeightsError, match=r"router_bias\.nothing"):
        Pack.open(pack)


def test_a_router_of_another_shape_is_refused(pack: Path, tiny_bundle: Path) -> None:
    rewrite(pack, router=RouterSpec(("router_bias.layout",), ("router_bias.layout",)))
    with pytest.raises(PackError, match="routers of task 'layout' have shapes"):
        extend(Bundle.open(tiny_bundle), [Pack.open(pack)])


def test_a_pack_without_the_router_that_experts_need_is_refused(pack: Path, tiny_bundle: Path) -> None:
    rewrite(pack, router=None)
    with pytest.raises(PackError, match="routers of task 'layout'"):
        extend(Bundle.open(tiny_bundle), [Pack.open(pack)])


def test_a_pack_without_a_head_at_some_size_is_refused(pack: Path, tiny_bundle: Path) -> None:
    rewrite(pack, graphs=Pack.open(pack).manifest.graphs[:2])
    with pytest.raises(PackError, match="a head for every task"):
        extend(Bundle.open(tiny_bundle), [Pack.open(pack)])


def test_a_tensor_with_the_name_of_one_of_the_bundle_is_refused(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Pack.open(build_tiny_pack(tmp_path / "pack", tiny_bundle))
    monkeypatch.setattr(Pack, "tensors", property(lambda _: ("router.depth",)))
    with pytest.raises(PackError, match=r"there is a tensor 'router\.depth' already"):
        extend(Bundle.open(tiny_bundle), [opened])


def test_a_tensor_with_the_name_of_another_packs_is_refused(
    pack: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Pack.open(pack)
    second = Pack.open(build_tiny_pack(tmp_path / "second", tiny_bundle, TaskSpec("height", "classes", 3)))
    assert extend(Bundle.open(tiny_bundle), [first, second]).manifest.task_names[-2:] == ("layout", "height")
    monkeypatch.setattr(Pack, "tensors", property(lambda _: ("router.layout", "router_bias.layout")))
    with pytest.raises(PackError, match=r"there is a tensor 'router\.layout' already"):
        extend(Bundle.open(tiny_bundle), [first, second])


@pytest.mark.parametrize("kind", ["nothing", "file", "bundle", "folder"])
def test_what_is_no_pack_is_said_to_be_none(tiny_bundle: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "file":
        path.write_text("")
    elif kind == "bundle":
        shutil.copytree(tiny_bundle, path)
    elif kind == "folder":
        path.mkdir()
    said = {"nothing": "here is nothing", "file": "here is a file", "bundle": "is a bundle", "folder": "no pack.json"}
    with pytest.raises(PackError, match=said[kind]):
        Pack.open(path)


def test_without_packs_a_bundle_stays_itself(tiny_bundle: Path) -> None:
    base = Bundle.open(tiny_bundle)
    assert extend(base, []) is base


def test_the_extended_bundle_has_a_digest_of_its_own(pack: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    base = Bundle.open(tiny_bundle)
    other = build_tiny_pack(tmp_path / "other", tiny_bundle, seed=8)
    digests = {base.digest, *(extend(base, [Pack.open(path)]).digest for path in (pack, other))}
    assert len(digests) == 3


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(), _JSON).map(lambda d: json.dumps(d | {"pack_version": 1}).encode())
)
def test_whatever_pack_json_holds_only_a_pack_error_comes_out(data: bytes) -> None:
    with pytest.raises(PackError):
        read_pack_manifest(data)
