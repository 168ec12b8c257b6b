"""One file per model: it comes back whole, or the error says what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from slimpath.models import CheckpointError, MultiTaskModel, load_checkpoint, save_checkpoint
from slimpath.models.checkpoint import FORMAT, load_weights


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> None:
    """Read a checkpoint's header and tensors, change them, write them back."""
    with safe_open(str(path), framework="pt") as file:
        header = dict(file.metadata())
    tensors = load_file(str(path))
    change(header, tensors)
    save_file(tensors, str(path), metadata=header)


@pytest.fixture
def saved(model: MultiTaskModel, tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", model, {"step": 7})


@pytest.mark.parametrize("name", ["m3vit_micro", "vit_micro"])
def test_round_trip_keeps_configuration_weights_and_metadata(
    name: str, make_model: Callable[..., MultiTaskModel], make_images: Callable[..., Tensor], tmp_path: Path
) -> None:
    model = make_model(name, widths=(0.5, 1.0), image_hw=(32, 48))
    metadata = {"recipe": {"lr": 1e-3}, "note": "Größe ✓"}
    path = save_checkpoint(tmp_path / "new" / "model.safetensors", model, metadata)
    loaded, found = load_checkpoint(path)
    assert found == metadata
    assert loaded.config == model.config
    images = make_images(2, (32, 48))
    for width in (0.5, 1.0):
        ours, theirs = (m(images, ["semseg", "scene"], width=width) for m in (model, loaded))
        assert all(torch.equal(ours.raw[task], theirs.raw[task]) for task in ours.raw)


def test_loaded_model_can_be_trained_on(saved: Path) -> None:
    loaded, _ = load_checkpoint(saved)
    assert not loaded.training
    assert all(p.requires_grad and p.device.type == "cpu" and p.is_leaf for p in loaded.parameters())


def test_loading_does_not_touch_the_random_state(saved: Path) -> None:
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_metadata_is_optional_and_low_precision_is_stored_as_fp32(model: MultiTaskModel, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model.safetensors", model.bfloat16())
    loaded, metadata = load_checkpoint(str(path))
    assert metadata == {}
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_saving_over_an_older_file_leaves_nothing_else_behind(saved: Path, model: MultiTaskModel) -> None:
    save_checkpoint(saved, model, {"step": 8})
    assert load_checkpoint(saved)[1] == {"step": 8}
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_failed_save_keeps_the_older_file_and_leaves_no_other(
    saved: Path, model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_tensors: object, name: str, **_: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("slimpath.models.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, model, {"step": 8})
    assert load_checkpoint(saved)[1] == {"step": 7}
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.safetensors"):
        load_checkpoint(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_truncated_file_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_checkpoint(saved)


def test_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize("header", [None, {"format": "pt"}])
def test_foreign_safetensors_file_is_refused_with_expected_and_got(
    header: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, str(path), metadata=header)
    got = "None" if header is None else "pt"
    with pytest.raises(CheckpointError, match=f"expected format '{FORMAT}', got '{got}'"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda header: header.pop("config"),
        lambda header: header.pop("metadata"),
        lambda header: header.update(config="{"),
        lambda header: header.update(config="[1]"),
        lambda header: header.update(config=json.dumps({**json.loads(header["config"]), "dim": 30})),
        lambda header: header.update(config=json.dumps({**json.loads(header["config"]), "surplus": 1})),
    ],
)
def test_damaged_header_is_refused_with_the_path(saved: Path, damage: Callable[[dict[str, str]], object]) -> None:
    rewrite(saved, lambda header, _tensors: damage(header))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the header is damaged: "):
        load_checkpoint(saved)


def test_missing_surplus_and_misshapen_tensors_are_listed_and_nothing_else(saved: Path) -> None:
    def change(_header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del tensors["encoder.class_token"]
        tensors["extra.weight"] = torch.zeros(2, 3)
        tensors["heads.depth.norm.bias"] = torch.zeros(7)

    rewrite(saved, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    assert str(caught.value).splitlines() == [
        f"{saved} does not fit the network (- missing, + surplus, ! shape):",
        "- encoder.class_token (1, 1, 32)",
        "+ extra.weight (2, 3)",
        "! heads.depth.norm.bias expected (32,), got (7,)",
    ]


def test_load_weights_copies_into_an_existing_model(make_model: Callable[..., MultiTaskModel]) -> None:
    source, target = make_model(seed=1), make_model(seed=2)
    load_weights(target, source.state_dict(), source="other")
    assert torch.equal(target.encoder.position, source.encoder.position)
    assert target.encoder.position.data_ptr() != source.encoder.position.data_ptr()


def test_load_weights_of_another_network_changes_nothing(make_model: Callable[..., MultiTaskModel]) -> None:
    target, other = make_model(), make_model("vit_micro", seed=1)
    before = target.encoder.position.clone()
    with pytest.raises(CheckpointError, match=r"^other does not fit"):
        load_weights(target, other.state_dict(), source="other")
    assert torch.equal(target.encoder.position, before)
