"""One file, preprocessing included, the same answers in plain ONNX Runtime and OpenVINO."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from slimpath import Engine
from slimpath.export import ExportError, TargetExistsError, export_standalone
from slimpath.export.letterbox import Letterbox
from slimpath.models import MultiTaskModel
from slimpath.runtime import Bundle
from slimpath.runtime.imaging.preprocess import preprocess

TASK_NAMES = ["semseg", "depth", "normals", "edge", "scene"]


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 2 + height // 6, 2 + width // 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (smooth[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def standalone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("standalone") / "model.onnx"
    report = export_standalone(checkpoint, out, width=0.5, top_k=2)
    assert report.worst_error is not None and report.worst_error < 1e-3
    return out


def _run(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = [np.asarray(value) for value in session.run(None, {"image": image})]
    return dict(zip((output.name for output in session.get_outputs()), values))


def test_file_is_self_contained_and_checks(standalone: Path) -> None:
    onnx.checker.check_model(str(standalone), full_check=True)
    proto = onnx.load(standalone)
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    label = json.loads(next(prop.value for prop in proto.metadata_props if prop.key == "slimpath"))
    assert label["tasks"] == TASK_NAMES and label["width"] == 0.5


def test_same_answers_as_the_engine_on_a_picture_of_network_size(standalone: Path, bundle: Bundle) -> None:
    """No resizing is involved, so the tolerance is that of parity; class ids may differ where scores tie."""
    image = _picture(32, 32)
    answers = _run(standalone, image)
    with Engine.load(bundle) as engine:
        result = engine(image, tasks=TASK_NAMES, budget="width=0.5,top_k=2", size=(32, 32))
        assert set(result.plan.decoder_widths.values()) == {0.5}
    for task in ("depth", "edge", "scene"):
        np.testing.assert_allclose(answers[task], result[task], atol=1e-3, err_msg=task)
    np.testing.assert_allclose(answers["normals"].transpose(1, 2, 0), result["normals"], atol=1e-3)
    assert np.mean(answers["semseg"] != result["semseg"]) < 0.01


@pytest.mark.parametrize("shape", [(32, 32), (77, 50), (20, 31), (64, 200)])
def test_openvino_gives_the_answers_of_onnxruntime(standalone: Path, shape: tuple[int, int]) -> None:
    openvino = pytest.importorskip("openvino", reason="the openvino extra is not installed")
    image = _picture(*shape, seed=3)
    compiled = openvino.Core().compile_model(str(standalone), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = _run(standalone, image)
    found = {next(iter(key.names)): value for key, value in compiled({"image": image}).items()}
    for task in ("depth", "edge", "scene", "normals", "content_box"):
        np.testing.assert_allclose(found[task], expected[task], atol=2e-3, err_msg=task)
    assert np.mean(found["semseg"] != expected["semseg"]) < 0.01


@pytest.mark.parametrize("shape", [(32, 32), (480, 640), (31, 97), (500, 20), (8, 8), (1, 1), (33, 47)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_letterbox_network_places_and_resizes_as_the_runtime_does(
    bundle: Bundle, shape: tuple[int, int], fit: str
) -> None:
    """Levels may differ by one where OpenCV's fixed-point rounding falls the other way, and by no more than that."""
    import msgspec

    spec = msgspec.structs.replace(bundle.manifest.preprocessing, fit=fit)
    image = _picture(*shape, seed=1)
    plane, placement = preprocess(image, (32, 48), spec)
    found, box = Letterbox(spec, (32, 48))(torch.from_numpy(image))
    assert box.tolist() == [placement.top, placement.left, placement.height, placement.width]
    one_level = 1.01 / 255 / np.array(spec.std).reshape(3, 1, 1)
    # Where one axis shrinks and the other grows, the runtime rounds to levels twice, after either.
    levels = 2 if (shape[0] < placement.height) != (shape[1] < placement.width) else 1
    assert np.all(np.abs(found[0].numpy() - plane) <= levels * one_level)
    # Most levels are equal; ties at half a level (frequent where 2 pixels become 3) may round either way.
    assert np.mean(np.abs(found[0].numpy() - plane) > 1e-4) < 0.2


def test_unknown_task_and_top_k_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="unknown task flow; this model has semseg"):
        export_standalone(checkpoint, tmp_path / "a.onnx", tasks=["flow"])
    with pytest.raises(ExportError, match=r"top_k must lie in 1..2, got 9"):
        export_standalone(checkpoint, tmp_path / "a.onnx", top_k=9)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("mine")
    with pytest.raises(TargetExistsError):
        export_standalone(checkpoint, tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_text() == "mine"


def test_model_fixture_has_every_kind_of_task(model: MultiTaskModel) -> None:
    assert {task.kind for task in model.config.tasks} == {"classes", "depth", "normals", "probability", "image_classes"}
