"""Task packs on the command line: run, plan, inspect and serve, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimpath.tests.runtime.tiny_pack import build_tiny_pack

Slimpath = Callable[..., Any]


@pytest.fixture
def pack(tiny_bundle: Path, tmp_path: Path) -> Path:
    return build_tiny_pack(tmp_path / "layout.pack", tiny_bundle)


def test_run_answers_the_task_of_a_pack(slimpath: Slimpath, tiny_bundle: Path, pack: Path, photos: Path) -> None:
    found = slimpath("run", photos / "a.png", "--bundle", tiny_bundle, "--pack", pack, "--tasks", "layout,depth",
                     "--out", "out", "--json")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert list(document["plan"]["decoder_widths"]) == ["layout", "depth"]
    assert Path("out/a.layout.png").is_file() and Path("out/a.depth.png").is_file()


def test_run_without_the_pack_does_not_know_its_task(slimpath: Slimpath, tiny_bundle: Path, photos: Path) -> None:
    found = slimpath("run", photos / "a.png", "--bundle", tiny_bundle, "--tasks", "layout")
    assert found.exit_code == 2
    assert "unknown task 'layout'" in found.stderr


def test_plan_counts_the_task_of_a_pack(slimpath: Slimpath, tiny_bundle: Path, pack: Path) -> None:
    arguments = ("plan", "--bundle", tiny_bundle, "--json")
    without = json.loads(slimpath(*arguments, "--tasks", "depth").stdout)
    found = slimpath(*arguments, "--pack", pack, "--tasks", "depth,layout")
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["flops"] > without["flops"]
    assert document["accuracies"]["layout"] is None


def test_inspect_shows_what_a_pack_adds_and_to_what(slimpath: Slimpath, pack: Path) -> None:
    found = slimpath("inspect", pack, "--verify")
    assert found.exit_code == 0, found.stderr
    assert "task pack layout" in found.stdout and "for tiny (" in found.stdout
    assert "adds 36 parameters to the encoder (0.90 % of the model)" in found.stdout
    document = json.loads(slimpath("inspect", pack, "--json").stdout)
    assert document["pack"] is True and document["share_in_encoder"] == pytest.approx(36 / 4000)
    assert document["task"]["name"] == "layout" and len(document["graphs"]) == 4


def test_inspect_refuses_a_damaged_pack(slimpath: Slimpath, pack: Path) -> None:
    data = bytearray((pack / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (pack / "weights.safetensors").write_bytes(data)
    found = slimpath("inspect", pack, "--verify")
    assert found.exit_code == 2
    assert "was changed" in found.stderr and len(found.stderr.splitlines()) == 1


def test_a_pack_where_a_bundle_belongs_says_what_it_is(slimpath: Slimpath, pack: Path, photos: Path) -> None:
    found = slimpath("run", photos / "a.png", "--bundle", pack)
    assert found.exit_code == 2
    assert "task pack" in found.stderr and "--pack" in found.stderr


def test_a_bundle_where_a_pack_belongs_says_what_it_is(slimpath: Slimpath, tiny_bundle: Path, photos: Path) -> None:
    found = slimpath("run", photos / "a.png", "--bundle", tiny_bundle, "--pack", tiny_bundle)
    assert found.exit_code == 2
    assert "is a bundle, no task pack" in found.stderr


def test_a_pack_of_another_bundle_is_refused_in_one_line(slimpath: Slimpath, pack: Path, photos: Path) -> None:
    found = slimpath("run", photos / "a.png", "--pack", pack)
    assert found.exit_code == 2
    assert "was trained for another bundle, tiny" in found.stderr and len(found.stderr.splitlines()) == 1


def test_serve_takes_packs_as_a_setting(slimpath: Slimpath, tiny_bundle: Path, pack: Path) -> None:
    found = slimpath("serve", tiny_bundle, "--packs", pack, "--print-config", "--json")
    assert found.exit_code == 0, found.stderr
    assert str(pack) in found.stdout
