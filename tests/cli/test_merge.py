"""`slimpath merge` from the command line: a report, a document, and one line for what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="merging needs torch")

Family = tuple[Path, list[Path]]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    from slimpath.tests.training.merging.families import write_family

    return write_family(tmp_path_factory.mktemp("files"), preset="vit_micro")


def test_report_names_tasks_vectors_and_both_files(slimpath: Callable[..., Any], family: Family):
    done = slimpath("merge", family[0], *family[1], "--method", "ties")
    assert done.exit_code == 0, done.output
    assert "length / base" in done.stdout and "cos depth" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("merged.safetensors: ") and "ties, tasks semseg, depth, edge" in last
    assert Path("merged.safetensors").is_file() and Path("merged.json").is_file()


def test_json_is_one_document_and_nothing_else(slimpath: Callable[..., Any], family: Family, photos: Path):
    options = ["--method", "adamerging", "--data", photos, "--steps", "2", "--images", "2", "--out", "a.safetensors"]
    done = slimpath("merge", family[0], *family[1], *options, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["method"] == "adamerging" and document["data"] == "photos/"
    assert document["checkpoint"] == "a.safetensors" and document["bytes"] == Path("a.safetensors").stat().st_size
    assert document["first_loss"] > 0 and document["tasks"] == ["semseg", "depth", "edge"]
    assert done.stderr == ""


def test_order_and_parts_of_twin_are_told(slimpath: Callable[..., Any], family: Family):
    options = ["--method", "twin", "--rank", "2", "--tasks", "edge, depth,semseg"]
    done = slimpath("merge", family[0], *family[1], *options)
    assert done.exit_code == 0, done.output
    assert "low-rank part of 2 matrices" in done.stdout and "tasks edge, depth, semseg" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "semseg,normals"], "no fine-tune brings normals"),
        (["--scale", "nan"], "scale must be a finite number"),
        (["--keep", "0"], "keep must be a share in (0, 1]"),
        (["--method", "atlas", "--data", "."], "labelled pictures, got the plain folder"),
        (["--method", "adamerging", "--data", "nowhere"], "expected a folder of pictures or rooms:N"),
        (["--out", "merged.pt"], "must be a .safetensors file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    slimpath: Callable[..., Any], family: Family, options: list[str], message: str
):
    done = slimpath("merge", family[0], *family[1], *options)
    assert done.exit_code == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(Path().iterdir())


def test_same_task_twice_a_missing_file_and_a_picture_are_refused(
    slimpath: Callable[..., Any], family: Family, photos: Path
):
    for arguments, message in (
        ([family[0], family[1][0], family[1][0]], "from one fine-tune, got 'semseg' from both"),
        ([family[0], "depth=nowhere.safetensors"], "no checkpoint at nowhere.safetensors"),
        ([photos / "a.png", family[1][0]], "is not a whole safetensors file"),
    ):
        done = slimpath("merge", *arguments)
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


def test_help_names_every_method_and_gives_examples(slimpath: Callable[..., Any]):
    shown = slimpath("merge", "--help").stdout
    for word in ("task-arithmetic", "ties", "adamerging", "atlas", "twin", "Examples:", "--data", "slimpath eval"):
        assert word in shown
