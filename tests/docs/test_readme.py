"""What the README and docs show runs: the Python blocks, the commands, the links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import slimpath
from slimpath.cli.app import app

ROOT = Path(slimpath.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)|<img src=\"([^\"]+)\"")


def _blocks(language: str) -> list[str]:
    return [body for name, body in BLOCK.findall((ROOT / "README.md").read_text()) if name == language]


def _commands() -> list[str]:
    """Every `slimpath ...` of the README, from blocks and tables."""
    text = (ROOT / "README.md").read_text()
    inline = re.findall(r"`(slimpath [^`]+)`", text)
    lines = [line.split("#")[0].strip() for _, body in BLOCK.findall(text) for line in body.splitlines()]
    return sorted({*inline, *(line for line in lines if line.startswith("slimpath "))})


@pytest.fixture
def folder_with_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures that the README names."""
    with np.load(ROOT / "assets" / "synthrooms_scene.npz") as room:
        picture = room["image"][..., ::-1]
    (tmp_path / "photos").mkdir()
    for name in ("room.jpg", "photo.jpg", "photos/a.jpg"):
        assert cv2.imwrite(str(tmp_path / name), picture)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", range(len(_blocks("python"))))
def test_python_block_runs(number: int, folder_with_photos: Path) -> None:
    block = _blocks("python")[number]
    assert len(block.strip().splitlines()) <= 12
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("command", _commands())
def test_command_runs(command: str, folder_with_photos: Path) -> None:
    """Of those that take minutes, a camera or a user's own files, or that never end, only the help is asked for."""
    words = shlex.split(command)[1:]
    bundle = str(ROOT / "assets" / "m3vit_nano")
    words = [bundle if word == "BUNDLE" else word for word in words]
    if words[0] in ("train", "eval", "export", "demo", "calibrate", "convert", "stream", "serve"):
        words = [words[0], "--help"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


def test_every_make_target_named_in_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"\bmake ([a-z][\w-]*)", _code_of(page))}
    assert {"demo", "test", "check"} <= named
    assert named <= targets, named - targets


def _code_of(page: Path) -> str:
    """Code blocks and code spans of a page."""
    text = page.read_text()
    return "\n".join([*(body for _, body in BLOCK.findall(text)), *re.findall(r"`([^`\n]+)`", text)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for first, second in LINK.findall(page.read_text()):
        target = first or second
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} points to {target}"
