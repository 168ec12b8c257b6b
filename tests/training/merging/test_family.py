"""What is read for a merge, and what is refused: other base, other shapes, tasks missing or twice, NaN."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from slimpath.models import CheckpointError, load_checkpoint, save_checkpoint
from slimpath.tests.training.merging.families import moved, random_model, write_family
from slimpath.training.merging import MergeError, Source, load_family
from slimpath.training.merging.assemble import assemble, of_task
from slimpath.training.start import sha256_of


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A base and fine-tunes for semseg, depth and edge. Read them only."""
    return write_family(tmp_path_factory.mktemp("files"))


def sources(paths: list[Path]) -> list[Source]:
    return [Source(path) for path in paths]


def test_heads_and_routers_are_those_of_the_own_fine_tune(files: tuple[Path, list[Path]]):
    base, tuned = files
    family = load_family(base, sources(tuned))
    assert family.tasks == ("semseg", "depth", "edge")
    merged = assemble(family, family.base_tensors())
    for path, task in zip(tuned, family.tasks, strict=True):
        own, there = of_task(load_checkpoint(path)[0], task), of_task(merged, task)
        assert {name.split(".")[0] for name in own} == {"heads", "routers"}
        assert own.keys() == there.keys() and all(torch.equal(own[name], there[name]) for name in own)


def test_merged_network_shares_no_memory_with_its_sources(files: tuple[Path, list[Path]]):
    family = load_family(files[0], sources(files[1]))
    merged = assemble(family, family.base_tensors())
    before = family.base_tensors()["encoder.patch_embed.weight"].clone()
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    assert torch.equal(family.base_tensors()["encoder.patch_embed.weight"], before)


def test_wanted_tasks_set_the_order_and_a_missing_one_is_refused(files: tuple[Path, list[Path]]):
    base, tuned = files
    assert load_family(base, sources(tuned), tasks=("edge", "semseg", "depth")).tasks == ("edge", "semseg", "depth")
    with pytest.raises(MergeError, match=r"no fine-tune brings normals \(they bring semseg, depth, edge\); give a"):
        load_family(base, sources(tuned), tasks=("semseg", "normals"))
    with pytest.raises(
        MergeError, match=r"edge\.safetensors brings none of the tasks semseg, depth; leave the file out"
    ):
        load_family(base, sources(tuned), tasks=("semseg", "depth"))


def test_same_task_twice_is_refused_unless_one_is_named(files: tuple[Path, list[Path]], tmp_path: Path):
    base, tuned = files
    both = random_model("m3vit_micro", ("semseg", "depth"), 9)
    state = {k: v for k, v in load_checkpoint(tuned[0])[0].state_dict().items() if k.startswith("encoder.")}
    both.load_state_dict({**both.state_dict(), **state})
    path = save_checkpoint(tmp_path / "both.safetensors", both, load_checkpoint(tuned[0])[1])
    with pytest.raises(MergeError, match=r"got 'semseg' from both .*semseg\.safetensors and .*TASK=FILE"):
        load_family(base, [Source(tuned[0]), Source(path)])
    family = load_family(base, [Source.parse(f"depth={path}"), Source(tuned[0])])
    assert family.tasks == ("depth", "semseg")
    with pytest.raises(MergeError, match="expected task 'edge', this checkpoint has semseg, depth"):
        load_family(base, [Source.parse(f"edge={path}")])


def test_file_whose_name_holds_an_equals_sign_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=1.safetensors").touch()
    assert Source.parse("lr=1.safetensors") == Source(Path("lr=1.safetensors"))
    assert Source.parse("depth=runs/lr=1/a.safetensors") == Source(Path("runs/lr=1/a.safetensors"), "depth")
    assert Source.parse("runs/a=b.safetensors") == Source(Path("runs/a=b.safetensors"))


def test_other_shapes_are_refused_by_what_differs(files: tuple[Path, list[Path]], tmp_path: Path):
    wide = random_model("m3vit_micro", ("depth",), 3, mlp_ratio=2.0)
    path = save_checkpoint(tmp_path / "wide.safetensors", wide)
    with pytest.raises(
        MergeError, match=r"another network than the base \(mlp_ratio: expected 4\.0, got 2\.0\); merge"
    ):
        load_family(files[0], [Source(path)])
    swin = save_checkpoint(tmp_path / "swin.safetensors", random_model("swin_micro", ("depth",), 3))
    with pytest.raises(MergeError, match=r"image_hw|another network"):
        load_family(files[0], [Source(swin)])


def test_base_of_another_image_size_is_resampled_as_its_training_was(tmp_path: Path):
    base = random_model("m3vit_micro", ("semseg",), 0)
    start = save_checkpoint(tmp_path / "base.safetensors", base)
    tuned = save_checkpoint(tmp_path / "depth.safetensors", moved(base.resized((48, 32)), "depth", 1, by=0.0))
    family = load_family(start, [Source(tuned)])
    assert family.config.image_hw == (48, 32)
    assert float(sum(value.abs().sum() for value in family.vectors()[0].values())) == 0


def test_another_base_is_refused_by_its_numbers(files: tuple[Path, list[Path]], tmp_path: Path):
    stranger = save_checkpoint(tmp_path / "base.safetensors", random_model("m3vit_micro", ("semseg",), 77))
    with pytest.raises(
        MergeError, match=r"does not look fine-tuned from this base.*at least 0\.1, got -?0\.0.*--no-check"
    ):
        load_family(stranger, sources(files[1]))
    assert load_family(stranger, sources(files[1]), check_base=False).tasks


def test_another_base_is_refused_by_what_the_training_wrote_down(files: tuple[Path, list[Path]], tmp_path: Path):
    model, metadata = load_checkpoint(files[1][0])
    for start, fits in ((sha256_of(files[0]), True), ("0" * 64, False)):
        written = {**metadata, "provenance": {"training": {"start": start}}}
        path = save_checkpoint(tmp_path / "written.safetensors", model, written)
        if fits:
            assert load_family(files[0], [Source(path)]).tasks == ("semseg",)
        else:
            with pytest.raises(
                MergeError, match=r"fine-tuned from another base: expected one with SHA-256 .* got 0000"
            ):
                load_family(files[0], [Source(path)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["encoder.blocks.0.attn.qkv", "heads.depth.out.weight", "routers.depth.weight.1"])
def test_numbers_that_are_not_finite_are_refused_by_name(
    files: tuple[Path, list[Path]], tmp_path: Path, name: str, value: float
):
    model, metadata = load_checkpoint(files[1][1])
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[3] = value
    path = save_checkpoint(tmp_path / "bad.safetensors", model, metadata)
    with pytest.raises(MergeError, match=f"NaN or infinity in {name}"):
        load_family(files[0], [Source(path)])


def test_base_that_is_not_finite_is_refused_but_its_heads_do_not_matter(files: tuple[Path, list[Path]], tmp_path: Path):
    for name, refused in (("encoder.class_token", True), ("heads.semseg.out.weight", False)):
        model, metadata = load_checkpoint(files[0])
        with torch.no_grad():
            dict(model.named_parameters())[name].fill_(math.nan)
        path = save_checkpoint(tmp_path / "base.safetensors", model, metadata)
        if refused:
            with pytest.raises(MergeError, match=r"NaN or infinity in encoder\.class_token"):
                load_family(path, sources(files[1]))
        else:
            assert load_family(path, sources(files[1])).tasks


def test_expert_that_a_router_rules_out_is_no_mistake(files: tuple[Path, list[Path]], tmp_path: Path):
    model, metadata = load_checkpoint(files[1][1])
    with torch.no_grad():
        model.routers["depth"].bias[0][1] = -math.inf  # type: ignore[index]
    path = save_checkpoint(tmp_path / "confined.safetensors", model, metadata)
    assert load_family(files[0], [Source(path)]).tasks == ("depth",)


def test_other_preprocessing_is_refused(files: tuple[Path, list[Path]], tmp_path: Path):
    model, metadata = load_checkpoint(files[1][1])
    other = {"fit": "stretch", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    path = save_checkpoint(tmp_path / "other.safetensors", model, {**metadata, "preprocessing": other})
    with pytest.raises(MergeError, match="another preprocessing"):
        load_family(files[0], [Source(files[1][0]), Source(path)])


def test_missing_and_damaged_files_and_no_file_at_all_are_refused(files: tuple[Path, list[Path]], tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_family(files[0], [Source(tmp_path / "nowhere.safetensors")])
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(files[1][0].read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_family(files[0], [Source(cut)])
    with pytest.raises(MergeError, match="at least one fine-tune"):
        load_family(files[0], [])


def test_experts_that_decoders_share_are_merged_with_the_backbone(tmp_path: Path):
    base, tuned = write_family(tmp_path, ("semseg", "depth"), preset="taskexpert_m3vit_micro")
    family = load_family(base, sources(tuned))
    shared = [name for name in family.base_tensors() if name.startswith("decoder_experts.")]
    assert shared
    changed = {name: value + 1.0 for name, value in family.base_tensors().items()}
    merged = assemble(family, changed).state_dict()
    assert all(torch.equal(merged[name], changed[name]) for name in changed)


def test_fine_tune_without_such_experts_is_refused(tmp_path: Path):
    base, tuned = write_family(tmp_path, ("semseg", "scene"), preset="taskexpert_m3vit_micro")
    with pytest.raises(MergeError, match="has_decoder_experts: expected True, got False"):
        load_family(base, sources(tuned))
