"""A checkpoint that is a malicious pickle, or damaged, at every door that takes one: refused in one line, never run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="checkpoints need torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

from slimpath.tests.export.convert.test_reader import KINDS, write_malicious

SMOKE = ("train", "smoke", "model=m3vit_micro", "stages=32x32:8:1", "data.scenes=2", "data.render_hw=32x32", "steps=1")
#: Verb with a checkpoint in the place of {file}.
DOORS: dict[str, tuple[str, ...]] = {
    "export": ("export", "{file}", "--out", "made"),
    "export to one file": ("export", "{file}", "--out", "made", "--to", "standalone"),
    "start of a training": (*SMOKE, "start={file}", "warmup_steps=1", "--out", "made"),
    "adapt": ("adapt", "{file}", "--data", "rooms:2", "--out", "made"),
    "eval": ("eval", "{file}", "--scenes", "1", "--write", "made"),
    "merge": ("merge", "{file}", "{file}", "{file}", "--out", "made.safetensors"),
    **{
        f"convert {name}": ("convert", name, "{file}", "made", "--heads", "4", "--top-k", "2", "--image-size", "64x64")
        for name in ("m3vit", "mtlora", "timm-vit", "timm-swin", "hydravit")
    },
}


def refused(done: Any) -> str:
    """The one line that says so."""
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and "Traceback" not in done.output, done.output
    return lines[0]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_malicious_pickle_is_never_run(door: str, suffix: str, slimpath: Callable[..., Any], tmp_path: Path) -> None:
    file, mark = tmp_path / f"model{suffix}", tmp_path / "mark"
    for kind in ("zip", "bare pickle") if door.startswith("convert") else KINDS[:3]:
        write_malicious(kind, file, mark)
        line = refused(slimpath(*(argument.format(file=file) for argument in DOORS[door])))
        assert str(file) in line
    assert not mark.exists() and not list(Path().glob("made*"))


@pytest.mark.parametrize("door", DOORS)
def test_damaged_file_is_called_so(door: str, slimpath: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from slimpath.models import HeadConfig, build_preset, save_checkpoint

    if door.startswith("convert"):
        import torch

        save_file({"a": torch.ones(100)}, tmp_path / "whole")
    else:
        save_checkpoint(tmp_path / "whole", build_preset("m3vit_micro", (HeadConfig("depth", "depth", 1),)))
    whole, file = (tmp_path / "whole").read_bytes(), tmp_path / "model.safetensors"
    for data in (b"", whole[:9], whole[: len(whole) // 2], whole[:-1], b"\xff" * 8 + whole[8:]):
        file.write_bytes(data)
        assert str(file) in refused(slimpath(*(argument.format(file=file) for argument in DOORS[door])))
    assert not list(Path().glob("made*"))


def test_state_of_a_training_that_is_a_malicious_pickle_is_never_run(
    slimpath: Callable[..., Any], tmp_path: Path
) -> None:
    run, mark = tmp_path / "run", tmp_path / "mark"
    run.mkdir()
    for kind in KINDS[:3]:
        write_malicious(kind, run / "state.pt", mark)
        assert "state.pt is not a training state" in refused(slimpath(*SMOKE, "warmup_steps=1", "--out", run))
    assert not mark.exists() and [path.name for path in run.iterdir()] == ["state.pt"]
