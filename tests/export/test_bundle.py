"""What a bundle is: flat, one copy of every weight, nothing half-written."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import ExternalDataInfo
from safetensors.numpy import load_file

from slimpath.export import ExportError, ParityError, TargetExistsError, export_bundle, export_model
from slimpath.export import bundle as bundle_module
from slimpath.export.weights import WEIGHTS_FILE, position_name
from slimpath.models import MultiTaskModel
from slimpath.models.encoder import narrowed
from slimpath.runtime import Bundle


def _external(tensor: onnx.TensorProto) -> ExternalDataInfo:
    return ExternalDataInfo(tensor)


def test_bundle_is_flat_and_holds_what_the_manifest_lists(bundle: Bundle) -> None:
    listed = {graph.file for graph in bundle.manifest.graphs} | {"manifest.json", WEIGHTS_FILE}
    assert {file.name for file in bundle.path.iterdir()} == listed


def test_every_file_can_be_read_by_others(bundle: Bundle) -> None:
    assert {file.stat().st_mode & 0o044 for file in bundle.path.iterdir()} == {0o044}


def test_weights_file_is_plain_safetensors_with_the_checkpoint_in_it(bundle: Bundle, model: MultiTaskModel) -> None:
    stored = load_file(bundle.path / WEIGHTS_FILE)
    for name, value in model.state_dict().items():
        name = position_name((32, 32)) if name == "encoder.position" else name
        np.testing.assert_array_equal(stored[name], value.numpy(), err_msg=name)


def test_every_weight_of_every_graph_is_a_prefix_of_the_one_copy(bundle: Bundle, model: MultiTaskModel) -> None:
    data = (bundle.path / WEIGHTS_FILE).read_bytes()
    for spec in bundle.manifest.graphs:
        graph = onnx.load(bundle.path / spec.file, load_external_data=False).graph
        part = model.encoder if spec.task is None else model.heads[spec.task]
        root = "encoder." if spec.task is None else f"heads.{spec.task}."
        expected = {root + name: value.numpy() for name, value in narrowed(part, spec.width).state_dict().items()}
        referred = {tensor.name: _external(tensor) for tensor in graph.initializer if tensor.external_data}
        assert referred.keys() == expected.keys(), spec.file
        for name, info in referred.items():
            assert info.location == WEIGHTS_FILE and info.offset is not None and info.length is not None
            assert data[info.offset : info.offset + info.length] == expected[name].tobytes(), (spec.file, name)
        inline = [tensor for tensor in graph.initializer if not tensor.external_data]
        assert sum(tensor.ByteSize() for tensor in inline) < 4096, spec.file


def test_sizes_share_all_weights_but_the_position_embedding(sized_bundle: Bundle) -> None:
    stored = load_file(sized_bundle.path / WEIGHTS_FILE)
    assert [name for name in stored if "position" in name] == [position_name((32, 32)), position_name((32, 48))]
    assert stored[position_name((32, 48))].shape == (1, 1 + 2 * 3, 32)


def test_graphs_keep_value_info_and_no_exporter_metadata(bundle: Bundle) -> None:
    for spec in bundle.manifest.graphs:
        proto = onnx.load(bundle.path / spec.file, load_external_data=False)
        assert not proto.metadata_props and not proto.graph.metadata_props
        assert all(not node.metadata_props and not node.doc_string for node in proto.graph.node)
        outputs = {name for node in proto.graph.node for name in node.output}
        described = {info.name for info in proto.graph.value_info} | {info.name for info in proto.graph.output}
        # Sizes that depend on the routing (an expert's tokens) cannot be described in full, yet their types are.
        assert len(described & outputs) >= 0.9 * len(outputs), spec.file


def test_every_graph_passed_its_parity_check(bundle: Bundle) -> None:
    assert all(graph.parity is not None and graph.parity.passed for graph in bundle.manifest.graphs)
    encoders = [graph.parity for graph in bundle.manifest.graphs if graph.kind == "encoder"]
    assert all(check is not None and check.min_gap is not None and check.min_gap >= 2e-5 for check in encoders)


def test_encoder_graph_of_a_moe_block_has_the_nodes_of_the_lowering(bundle: Bundle) -> None:
    spec = next(graph for graph in bundle.manifest.graphs if graph.kind == "encoder")
    nodes = onnx.load(bundle.path / spec.file, load_external_data=False).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("NonZero") == len(bundle.manifest.encoder.moe_blocks)
    assert not {"If", "Loop", "Scan", "ScatterND"} & set(kinds)
    assert all(node.domain in ("", "ai.onnx") for node in nodes)


def test_existing_target_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(TargetExistsError, match="exists"):
        export_bundle(checkpoint, target)
    assert [file.name for file in target.iterdir()] == ["mine.txt"]


def test_failed_parity_leaves_nothing_behind(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = bundle_module.parity.onnxruntime_runner

    def off_by_a_little(path: Path):
        run = runner(path)
        return lambda inputs: [value + 0.01 for value in run(inputs)]

    monkeypatch.setattr(bundle_module.parity, "onnxruntime_runner", off_by_a_little)
    with pytest.raises(ParityError, match=r"encoder-32x32-w1\.onnx differs from the network by"):
        export_bundle(checkpoint, tmp_path / "out", widths=[1.0])
    assert list(tmp_path.iterdir()) == []


def test_size_off_the_patch_grid_names_expected_and_got(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="multiples of the patch, 16, got 30x32"):
        export_bundle(checkpoint, tmp_path / "out", sizes=[(30, 32)])
    assert list(tmp_path.iterdir()) == []


def test_widths_without_the_full_one_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must include 1"):
        export_bundle(checkpoint, tmp_path / "out", widths=[0.5])
    assert list(tmp_path.iterdir()) == []


def test_unchecked_export_says_so_and_is_otherwise_the_same(
    model: MultiTaskModel, bundle: Bundle, tmp_path: Path
) -> None:
    report = export_model(model, {"licence": "Apache-2.0"}, tmp_path / "fast", check=False, widths=[1.0], name="micro")
    assert report.worst_error is None
    manifest = Bundle.open(report.path).manifest
    assert all(graph.parity is None for graph in manifest.graphs)
    assert (tmp_path / "fast" / "encoder-32x32-w1.onnx").exists()


def test_hard_linked_copy_of_the_weights_works(bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.path.iterdir():
        if file.name == WEIGHTS_FILE:
            (copy / file.name).hardlink_to(file)
        else:
            shutil.copy(file, copy / file.name)
    assert Bundle.open(copy, verify=True).digest == bundle.digest


def test_manifest_tells_the_network_apart_and_its_licence(bundle: Bundle) -> None:
    raw = json.loads((bundle.path / "manifest.json").read_text())
    assert raw["schema_version"] == 1 and raw["licence"] == "Apache-2.0" and raw["name"] == "micro"
    assert raw["model"]["dim"] == 32 and raw["accuracies"] == []
