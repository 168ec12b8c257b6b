"""ViT and Swin classifiers: the logits that timm computes come out of our network and out of its bundle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimpath.export import export_bundle
from slimpath.export.convert import FORMATS, ConvertOptions, convert
from slimpath.export.errors import ConvertError
from slimpath.models import load_checkpoint
from slimpath.runtime import Bundle, Engine

from . import drawn
from .conftest import reference

TOLERANCE = 1e-5
CASES: dict[str, tuple[str, str, int, int, ConvertOptions]] = {
    "vit_token": ("timm-vit", "vit", 1, 32, ConvertOptions(heads=4)),
    "vit_avg": ("timm-vit", "vit_avg", 2, 32, ConvertOptions(heads=4)),
    "swin": ("timm-swin", "swin", 3, 64, ConvertOptions(image_hw=(64, 64))),
    "swin_128": ("timm-swin", "swin", 4, 128, ConvertOptions()),
}
#: At 128 pixels no grid is smaller than the window of 4, at 64 the last one is.
SWIN_128 = {f"layers.3.blocks.{block}.attn.relative_position_bias_table": (49, 8) for block in (0, 1)}


def saved(case: str, folder: Path, *, wrap: bool = True) -> Path:
    """The checkpoint of a case, as timm's trainer would save it."""
    _, model, seed, _, _ = CASES[case]
    state = drawn.weights(model, seed, SWIN_128 if case == "swin_128" else None)
    file = folder / f"{case}.pth"
    torch.save({"epoch": 1, "state_dict": state} if wrap else state, file)
    return file


@pytest.mark.parametrize("case", CASES)
def test_network_computes_what_timm_computes(case: str, tmp_path: Path) -> None:
    name, _, seed, side, options = CASES[case]
    model = FORMATS[name][0](saved(case, tmp_path), options).model
    with torch.no_grad():
        found = model(drawn.images((side, side), seed), ["label", "label"]).raw["label"]
    np.testing.assert_allclose(found, reference("timm")[case], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", ["vit_token", "swin_128"])
def test_bundle_answers_as_the_network(case: str, tmp_path: Path) -> None:
    name, _, _, side, options = CASES[case]
    report = convert(name, saved(case, tmp_path, wrap=False), tmp_path / "model.safetensors", options)
    exported = export_bundle(report.path, tmp_path / "bundle")
    assert exported.worst_error is not None and exported.worst_error < 1e-4
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    model, _ = load_checkpoint(report.path)
    plane = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        raw = model(torch.from_numpy(plane.transpose(2, 0, 1)[None].astype(np.float32)), ["label"]).raw["label"]
    with Engine.load(Bundle.open(tmp_path / "bundle"), threads=1) as engine:
        np.testing.assert_allclose(engine(image)["label"], torch.softmax(raw[0], 0), atol=1e-5)


def test_authors_names_of_a_swin_are_the_same_model(tmp_path: Path) -> None:
    """Patch merging closes a stage there, and the classifier is called `head`; index tables and masks are stored."""
    state = drawn.weights("swin", 4, SWIN_128)
    theirs: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        part = name.split(".")
        if part[0] == "layers" and part[2] == "downsample":
            name = ".".join(["layers", str(int(part[1]) - 1), *part[2:]])
        theirs[name.replace("head.fc.", "head.")] = value
    theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 16, 16)
    torch.save({"model": theirs}, tmp_path / "swin.pth")
    one = FORMATS["timm-swin"][0](saved("swin_128", tmp_path), ConvertOptions()).model.state_dict()
    other = FORMATS["timm-swin"][0](tmp_path / "swin.pth", ConvertOptions()).model.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_hydravit_is_read_at_full_width_with_heads_of_64_channels(tmp_path: Path) -> None:
    """Standard names; its head count follows from its rule, and the averaged weights are there on request."""
    shapes = {name: tuple(value.shape) for name, value in drawn.weights("vit", 0).items()}
    wide = {name: tuple(128 * size // 48 for size in shape) for name, shape in shapes.items()}
    fixed = {"pos_embed": (1, 17, 128), "cls_token": (1, 1, 128), "patch_embed.proj.weight": (128, 3, 8, 8)}
    fixed |= {"head.weight": (10, 128), "head.bias": (10,)}
    state, averaged = (drawn.weights("vit", seed, {**wide, **fixed}) for seed in (5, 6))
    file = tmp_path / "hydra.pth.tar"
    torch.save({"state_dict": state, "state_dict_ema": averaged, "arch": "hydravit"}, file)
    result = FORMATS["hydravit"][0](file, ConvertOptions())
    assert result.model.config.heads == 2 and result.model.config.widths == (1.0,)
    assert torch.equal(result.model.encoder.position, state["pos_embed"])
    ema = FORMATS["hydravit"][0](file, ConvertOptions(ema=True)).model
    assert torch.equal(ema.encoder.position, averaged["pos_embed"])
    with pytest.raises(ConvertError, match="no averaged weights"):
        FORMATS["timm-vit"][0](saved("vit_token", tmp_path), ConvertOptions(heads=4, ema=True))


def test_name_and_normalisation_are_the_users(tmp_path: Path) -> None:
    options = ConvertOptions(heads=4, tasks=("animal",), normalise="half")
    report = convert("timm-vit", saved("vit_token", tmp_path), tmp_path / "vit.safetensors", options)
    model, metadata = load_checkpoint(report.path)
    assert model.config.task_names == report.tasks == ("animal",)
    assert metadata["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "change", "options", "message"),
    [
        ("timm-vit", {}, {}, "say --heads"),
        ("timm-vit", {}, {"heads": 5}, "dim must be a multiple of heads"),
        ("timm-vit", {}, {"heads": 4, "image_hw": (32, 64)}, "16 patches of 8 pixels, which images of 32x64 do not"),
        ("timm-vit", {}, {"heads": 4, "tasks": ("a", "b")}, "classifier with one task"),
        ("timm-vit", {"head.weight": None, "head.bias": None}, {"heads": 4}, "no classifier"),
        ("timm-vit", {"fc_norm.weight": (48,)}, {"heads": 4}, "one last norm"),
        ("timm-vit", {"blocks.0.ls1.gamma": (48,)}, {"heads": 4}, r"\+ blocks\.0\.ls1\.gamma \(48,\)"),
        (
            "timm-vit",
            {"norm.weight": (40,)},
            {"heads": 4},
            r"! heads\.label\.norm\.weight expected \(48,\), got \(40,\)",
        ),
        ("timm-vit", {"blocks.1.attn.qkv.weight": (100, 48)}, {"heads": 4}, "does not fit the network"),
        ("timm-vit", {"pos_embed": (17, 48)}, {"heads": 4}, "'pos_embed' must have 3 axes"),
        ("timm-swin", {}, {"image_hw": (96, 96)}, "must be multiples of the window"),
        (
            "timm-swin",
            {"layers.0.blocks.0.attn.relative_position_bias_table": (50, 2)},
            {},
            r"\(2 x window - 1\)\^2 rows",
        ),
        ("timm-swin", {"head.fc.weight": None, "head.fc.bias": None}, {}, "no classifier"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, change: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    state = drawn.weights("vit" if name == "timm-vit" else "swin", 1)
    for key, shape in change.items():
        state[key] = torch.zeros(shape or ())
        if shape is None:
            del state[key]
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ConvertError, match=message):
        convert(name, tmp_path / "model.pth", tmp_path / "out.safetensors", ConvertOptions(**options))
    assert not (tmp_path / "out.safetensors").exists()


def test_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="format must be one of m3vit, mtlora, timm-vit, timm-swin, hydravit"):
        convert("resnet", saved("vit_token", tmp_path), tmp_path / "out.safetensors")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        convert("timm-vit", tmp_path / "nothing.pth", tmp_path / "out.safetensors")
