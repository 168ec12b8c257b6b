"""`slimpath convert`: from a stranger's file to a checkpoint, with what was assumed and what was left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="converting needs torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from slimpath.tests.export.convert import drawn  # noqa: E402
from slimpath.tests.export.convert.conftest import unpack  # noqa: E402
from slimpath.tests.export.convert.test_reader import KINDS, write_malicious  # noqa: E402

M3VIT = ("--heads", "4", "--top-k", "2", "--image-size", "64x96")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m3vit")
    for rank in (0, 1):
        unpack(f"m3vit-a/{rank}.pth.xz", folder / f"{rank}.pth")
    return folder


def test_folder_of_ranks_becomes_a_checkpoint(slimpath: Callable[..., Any], ranks: Path) -> None:
    done = slimpath("convert", "m3vit", ranks, "m3vit.safetensors", *M3VIT)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("m3vit.safetensors: ") and "all 410 tensors accounted for" in done.stdout
    assert "assumed: small gate scores count (else: --expert-prune)" in done.stderr
    assert "not needed: 188 tensors, only used in training" in done.stderr
    assert Path("m3vit.safetensors").is_file()
    again = slimpath("convert", "m3vit", ranks, "m3vit.safetensors", *M3VIT)
    assert again.exit_code == 2 and "exists" in again.stderr


def test_json_lists_where_every_tensor_went(slimpath: Callable[..., Any], ranks: Path) -> None:
    done = slimpath("convert", "m3vit", ranks, "m3vit.safetensors", *M3VIT, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["names"]["encoder.blocks.1.experts.up.7"] == "backbone.blocks.1.mlp.experts.htoh4.weight"
    assert document["read"] == 410 and len(document["dropped_names"]) == 188
    assert document["tasks"] == ["semseg", "human_parts", "saliency", "normals", "edge"]


def test_list_shows_the_table(slimpath: Callable[..., Any], tmp_path: Path) -> None:
    torch.save(drawn.weights("vit", 1), tmp_path / "vit.pth")
    done = slimpath("convert", "timm-vit", tmp_path / "vit.pth", "vit.safetensors", "--heads", "4", "--list")
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if line.strip().startswith("blocks.2.attn.proj.weight"))
    assert line.split() == ["blocks.2.attn.proj.weight", "encoder.blocks.2.attn.proj"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m3vit", "{ranks}", "out.safetensors", "--heads", "4", "--image-size", "64x96"), "say --top-k"),
        (("m3vit", "{ranks}/0.pth", "out.safetensors", *M3VIT), "a rank's file is missing"),
        (("timm-vit", "{ranks}/1.pth", "out.safetensors"), "is no file of this format"),
        (("mtlora", "nothing.pth", "out.safetensors"), "no checkpoint at nothing.pth"),
        (("m3vit", "{ranks}", "out.safetensors", "--image-size", "wide"), "a size must be HEIGHTxWIDTH"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], message: str, slimpath: Callable[..., Any], ranks: Path
) -> None:
    done = slimpath("convert", *(argument.format(ranks=ranks) for argument in arguments))
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("slimpath")]
    assert len(lines) == 1 and message in lines[0] and "Traceback" not in done.output
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_malicious_file_is_refused_in_one_line_and_never_runs(
    kind: str, slimpath: Callable[..., Any], tmp_path: Path
) -> None:
    write_malicious(kind, tmp_path / "model.pth", tmp_path / "mark")
    done = slimpath("convert", "mtlora", tmp_path / "model.pth", "out.safetensors")
    assert done.exit_code == 2 and "is refused: it asks for" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "mark").exists() and not Path("out.safetensors").exists()
