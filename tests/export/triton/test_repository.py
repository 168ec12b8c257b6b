"""The model repository: layout, configurations by Triton's schema, weights by reference, the same answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from slimpath import Engine
from slimpath.export import ExportError, TargetExistsError
from slimpath.export.triton import TritonReport, export_triton
from slimpath.export.triton import repository as repository_module
from slimpath.export.triton.config import Word, to_text
from slimpath.runtime import Bundle
from slimpath.tests.export.triton.published_schema import check_rules, parse_config

NAMES = ("rooms", "rooms_w050")
TRITON_OF_ONNXRUNTIME = {"tensor(uint8)": 2, "tensor(int64)": 9, "tensor(float)": 11}  # numbers of DataType


def config_of(repository: Path, name: str) -> str:
    return (repository / name / "config.pbtxt").read_text(encoding="utf-8")


def test_repository_has_a_python_model_and_an_onnx_model_per_asked_width(repository: Path, report: TritonReport):
    assert tuple(sorted(path.name for path in repository.iterdir())) == NAMES
    assert (repository / "rooms" / "1" / "model.py").is_file()
    assert tuple(model.name for model in report.onnx_models) == NAMES[1:]
    assert report.worst_error is not None and report.worst_error < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_config_fits_the_published_schema_and_the_rules_of_the_core(repository: Path, name: str):
    config = parse_config(config_of(repository, name))
    check_rules(config)
    assert config.name == name


def test_schema_refuses_what_triton_would_refuse():
    """The two tests above can fail."""
    from google.protobuf import text_format

    with pytest.raises(text_format.ParseError, match="batching"):
        parse_config(to_text({"name": "x", "batching": 3}))
    with pytest.raises(text_format.ParseError, match="TYPE_FLOAT"):
        parse_config(to_text({"input": [{"name": "x", "data_type": Word("TYPE_FLOAT"), "dims": [1]}]}))
    with pytest.raises(AssertionError):
        check_rules(parse_config('name: "x" backend: "python" input { name: "i" data_type: TYPE_UINT8 dims: 0 }'))


def test_text_form_escapes_what_would_end_a_text():
    text = to_text({"name": 'a"b\\c\nd', "model_transaction_policy": {"decoupled": True}})
    assert parse_config(text).name == 'a"b\\c\nd'
    with pytest.raises(TypeError, match="no text form"):
        to_text({"name": 1.5})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", NAMES[1:])
def test_onnx_model_has_the_inputs_and_outputs_that_its_config_promises(repository: Path, name: str):
    session = onnxruntime.InferenceSession(repository / name / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    config = parse_config(config_of(repository, name))
    for declared, actual in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [port.name for port in declared] == [port.name for port in actual]
        for port, value in zip(declared, actual):
            assert port.data_type == TRITON_OF_ONNXRUNTIME[value.type]
            assert [size if isinstance(size, int) else -1 for size in value.shape] == list(port.dims), port.name


def test_onnx_models_refer_to_the_one_weights_file(repository: Path, bundle: Bundle):
    weights = repository / "rooms" / "1" / "bundle" / bundle.manifest.weights.file
    large = 0
    for name in NAMES[1:]:
        linked = repository / name / "1" / weights.name
        assert linked.samefile(weights) and not linked.is_symlink()
        graph = onnx.load(str(repository / name / "1" / "model.onnx"), load_external_data=False).graph
        outside = [tensor for tensor in graph.initializer if tensor.external_data]
        assert {entry.value for t in outside for entry in t.external_data if entry.key == "location"} == {weights.name}
        # Inside remain a task's routers and the letterbox's constants.
        inside = sum(len(tensor.raw_data) for tensor in graph.initializer if not tensor.external_data)
        large = sum(int(entry.value) for t in outside for entry in t.external_data if entry.key == "length")
        assert inside < 0.1 * large
    assert large > 0.5 * weights.stat().st_size


def test_onnx_model_answers_as_the_engine_does(repository: Path, bundle: Bundle):
    """A picture of the network's size: no resizing is involved, so the tolerance is that of parity."""
    side = bundle.manifest.sizes[0][0]
    image = np.random.default_rng(3).integers(0, 256, (side, side, 3)).astype(np.uint8)
    session = onnxruntime.InferenceSession(
        repository / NAMES[1] / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    answers = dict(zip((value.name for value in session.get_outputs()), session.run(None, {"image": image})))
    with Engine.load(bundle) as engine:
        result = engine(image, budget="width=0.5")
    for task in ("depth", "edge", "scene"):
        np.testing.assert_allclose(np.asarray(answers[task]), result[task], atol=1e-3, err_msg=task)


def test_class_names_lie_where_the_config_says(repository: Path, bundle: Bundle):
    for name in NAMES:
        (output,) = [port for port in parse_config(config_of(repository, name)).output if port.label_filename]
        assert output.name == "scene"
        lines = (repository / name / output.label_filename).read_text(encoding="utf-8").splitlines()
        assert len(lines) == 4


def test_checkpoint_is_exported_first_and_needs_no_bundle(
    checkpoint: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Exporting has tests of its own and takes a minute: here the bundle that came of this checkpoint is copied."""
    exported: list[Path] = []

    def export(source: Path, out: Path, **_options: object) -> None:
        exported.append(source)
        shutil.copytree(bundle.path, out)

    monkeypatch.setattr(repository_module, "export_bundle", export)
    report = export_triton(checkpoint, tmp_path / "models", onnx=False, check=False)
    assert exported == [checkpoint] and report.python_model == checkpoint.stem
    assert report.onnx_models == () and report.worst_error is None
    assert Bundle.open(tmp_path / "models" / report.python_model / "1" / "bundle").manifest.tasks
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_bad_requests_leave_nothing_behind(bundle: Bundle, tmp_path: Path):
    for options, words in (
        ({"tasks": ["flow"]}, "unknown task flow; this bundle has semseg"),
        ({"widths": [0.33]}, "has the widths"),
        ({"name": "../escape"}, "choose one: --name"),
        ({"settings": {"gpu": "1"}}, "unknown setting gpu"),
    ):
        with pytest.raises(ExportError, match=words):
            export_triton(bundle.path, tmp_path / "models", check=False, **options)  # type: ignore[arg-type]
    (tmp_path / "models").mkdir()
    with pytest.raises(TargetExistsError):
        export_triton(bundle.path, tmp_path / "models")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
