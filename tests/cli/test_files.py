"""Which images a command line means, and that files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpath.cli.errors import InputError
from slimpath.cli.files import find_images, write_together


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def stems(arguments: list[str], out: Path = Path("out")) -> list[str]:
    return [entry.stem.as_posix() for entry in find_images(arguments, out)]


def test_folder_means_every_image_below_it_and_keeps_its_tree(folder: Path):
    touch(folder / "b.JPG", folder / "a.png", folder / "sub" / "c.webp", folder / "notes.txt", folder / ".x.png")
    assert stems([str(folder)]) == ["a", "b", "sub/c"]


def test_pattern_means_what_fits_it(folder: Path):
    touch(folder / "a.png", folder / "b.jpg", folder / "sub" / "c.png")
    assert stems([str(folder / "*.png")]) == ["a"]
    assert stems([str(folder / "**" / "*.png")]) == ["a", "c"]


def test_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path):
    touch(folder / "room[1].png", folder / "room1.png")
    assert stems([str(folder / "room[1].png")]) == ["room[1]"]


def test_same_file_named_twice_runs_once(folder: Path):
    touch(folder / "a.png")
    assert stems([str(folder / "a.png"), str(folder), str(folder / "*.png")]) == ["a"]


def test_results_of_images_of_one_name_do_not_overwrite_each_other(folder: Path):
    touch(folder / "x" / "a.png", folder / "y" / "A.jpg", folder / "z" / "a.bmp")
    arguments = [str(folder / name) for name in ("x/a.png", "y/A.jpg", "z/a.bmp")]
    assert stems(arguments) == ["a", "A-2", "a-3"]


def test_running_twice_does_not_take_results_for_images(folder: Path):
    touch(folder / "a.png", folder / "out" / "a.depth.png")
    assert stems([str(folder), str(folder / "**" / "*.png")], folder / "out") == ["a"]


def test_missing_file_stays_in_the_list(folder: Path):
    assert stems([str(folder / "gone.png")]) == ["gone"]


def test_folder_or_pattern_without_images_is_refused(folder: Path):
    touch(folder / "notes.txt")
    with pytest.raises(InputError, match="no images in this folder"):
        find_images([str(folder)], folder / "out")
    with pytest.raises(InputError, match="no file fits this pattern"):
        find_images([str(folder / "*.png")], folder / "out")


def test_files_are_written_together_and_replace_older_ones(folder: Path):
    old = folder / "sub" / "a"
    touch(old)
    write_together({old: b"new", folder / "b": b"b"})
    assert old.read_bytes() == b"new"
    assert sorted(path.name for path in folder.rglob("*")) == ["a", "b", "sub"]


def test_failed_write_leaves_nothing_of_the_set(folder: Path):
    touch(folder / "taken")
    with pytest.raises(OSError):
        write_together({folder / "a": b"a", folder / "taken" / "b": b"b"})  # a file where a folder must be
    assert [path.name for path in folder.iterdir()] == ["taken"]
