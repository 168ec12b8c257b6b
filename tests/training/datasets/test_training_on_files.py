"""From files to a checkpoint: settings name a folder, and the network gets the heads that its labels need."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpath.models import load_checkpoint
from slimpath.tests.training.conftest import toy_config
from slimpath.tests.training.datasets.conftest import write_list
from slimpath.training.config import DataConfig, Stage, TrainConfig
from slimpath.training.errors import DataError
from slimpath.training.run_train import train
from slimpath.training.sources import open_source


def config_of(layout: str, root: Path | None, tasks: tuple[str, ...]) -> TrainConfig:
    rows = min(2, len(tasks))
    data = DataConfig(dataset=layout, root=None if root is None else str(root), rows_per_image=rows)
    return toy_config(steps=1, stages=(Stage((32, 32), 2 * len(tasks), 1.0),), tasks=tasks, data=data)


def test_training_reads_files_and_says_so(pascal: Path, tmp_path: Path):
    tasks = ("semseg", "human_parts", "saliency", "normals", "edge")
    result = train(config_of("pascal_mt", pascal, tasks), tmp_path, progress=False)
    assert result.finished
    model, metadata = load_checkpoint(result.checkpoint)
    assert {task.name: task.channels for task in model.config.tasks} == {
        "semseg": 21,
        "human_parts": 7,
        "saliency": 1,
        "normals": 3,
        "edge": 1,
    }
    assert metadata["provenance"]["data"] == "pascal_mt, split train"
    assert str(pascal) not in str(metadata)  # the machine's folders are nobody's business
    assert all(not task["classes"] for task in metadata["tasks"])
    words = {task["name"]: task["description"] for task in metadata["tasks"]}
    assert "data set" in words["normals"] and "x right" not in words["normals"]  # what is true of SynthRooms
    assert "largest area" not in words["saliency"] and "creases" not in words["edge"]


def test_plain_folder_trains_with_its_own_classes(plain: Path, tmp_path: Path):
    names = ["floor", "wall", "a", "b", "door"]
    write_list(plain / "semseg.txt", names)
    result = train(config_of("folder", plain, ("semseg", "depth")), tmp_path / "run", progress=False)
    model, metadata = load_checkpoint(result.checkpoint)
    assert model.config.task("semseg").channels == 5
    semseg, depth = metadata["tasks"]
    assert (list(semseg["classes"]), list(semseg["palette"])) == (names, [])
    assert depth["unit"] == "" and "degrees" not in depth["description"]


def test_folder_is_asked_for_and_checked_before_anything_is_built(tmp_path: Path):
    with pytest.raises(DataError, match=r"needs data\.root"):
        open_source(config_of("folder", None, ("depth",)))
    with pytest.raises(DataError, match="must be a folder"):
        open_source(config_of("folder", tmp_path / "nowhere", ("depth",)))
