"""Weights between a checkpoint and its fine-tune lie on the line, and say where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slimpath.models import HeadConfig, build_preset, load_checkpoint, save_checkpoint
from slimpath.training.between import between, main
from slimpath.training.errors import ConfigError
from slimpath.training.start import sha256_of

TASKS = (HeadConfig("depth", "depth", 1), HeadConfig("edge", "probability", 1))


def written(folder: Path, name: str, seed: int, tasks: tuple[HeadConfig, ...] = TASKS) -> Path:
    torch.manual_seed(seed)
    path = folder / f"{name}.safetensors"
    save_checkpoint(path, build_preset("m3vit_micro", tasks).eval(), {"provenance": {"trained_by": name}})
    return path


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    return written(tmp_path, "start", 0), written(tmp_path, "tuned", 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_every_weight_is_that_share_of_the_way(ends: tuple[Path, Path], tmp_path: Path, share: float) -> None:
    between(*ends, share, tmp_path / "out.safetensors")
    old, new, found = (load_checkpoint(path)[0].state_dict() for path in (*ends, tmp_path / "out.safetensors"))
    assert any(not torch.equal(old[name], new[name]) for name in old)
    for name, value in found.items():
        torch.testing.assert_close(value, (1 - share) * old[name] + share * new[name], rtol=1e-5, atol=1e-6)


def test_it_says_which_files_it_lies_between(ends: tuple[Path, Path], tmp_path: Path) -> None:
    main([*map(str, ends), "--share", "0.7", "--out", str(tmp_path / "out.safetensors")])
    provenance = load_checkpoint(tmp_path / "out.safetensors")[1]["provenance"]
    assert provenance["trained_by"] == "tuned"
    assert provenance["between"] == {"share": 0.7, "start": sha256_of(ends[0]), "tuned": sha256_of(ends[1])}


def test_other_tasks_and_shares_outside_the_line_are_refused(ends: tuple[Path, Path], tmp_path: Path) -> None:
    other = written(tmp_path, "other", 2, TASKS[:1])
    with pytest.raises(ConfigError, match="is not a fine-tune of"):
        between(ends[0], other, 0.5, tmp_path / "out.safetensors")
    with pytest.raises(ConfigError, match=r"from 0 \(the start\) to 1 \(the fine-tune\), got 1.5"):
        between(*ends, 1.5, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_command_names_what_is_missing(
    ends: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "none.safetensors"), str(ends[1]), "--share", "0.5", "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and "none.safetensors" in capsys.readouterr().err
