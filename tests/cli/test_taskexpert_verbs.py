"""A network with decoders after TaskExpert by the command line alone: trained, exported, linted, inspected, run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training and exporting need torch")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")

SETTINGS = ["stages=32x32:8:1", "steps=2", "warmup_steps=1", "data.scenes=4", "data.render_hw=32x32"]


def test_preset_is_trained_exported_inspected_and_run(slimpath: Callable[..., Any], photos: Path, tmp_path: Path):
    chosen = ["model=taskexpert_m3vit_micro", "tasks=depth", "data.rows_per_image=1", *SETTINGS]
    trained = slimpath("train", "smoke", *chosen, "--out", tmp_path / "run", "--json")
    assert trained.exit_code == 0, trained.output
    checkpoint, bundle = json.loads(trained.stdout)["checkpoint"], tmp_path / "bundle"
    made = slimpath("export", checkpoint, "--out", bundle, "--widths", "1", "--json")
    assert made.exit_code == 0, made.output
    inspected = slimpath("inspect", bundle, "--verify")
    assert inspected.exit_code == 0, inspected.output
    ran = slimpath("run", photos, "--bundle", bundle, "--tasks", "depth", "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.output


def test_its_graphs_for_gpus_pass_the_linter(slimpath: Callable[..., Any], tmp_path: Path):
    from slimpath.models import HeadConfig, build_preset, save_checkpoint

    model = build_preset("taskexpert_vit_micro", (HeadConfig("depth", "depth", 1),), depth=2, decoder_experts=2)
    checkpoint, bundle = save_checkpoint(tmp_path / "small.safetensors", model), tmp_path / "bundle"
    made = slimpath("export", checkpoint, "--out", bundle, "--target", "gpu", "--widths", "1", "--json")
    assert made.exit_code == 0, made.output
    assert all(one["passed"] for one in json.loads(made.stdout)["agreements"])
    linted = slimpath("export", bundle, "--lint", "tensorrt")
    assert linted.exit_code == 0 and "0 refusals" in linted.stdout, linted.output


def test_unknown_preset_says_what_may_stand_before_a_name(slimpath: Callable[..., Any], tmp_path: Path):
    done = slimpath("train", "smoke", "model=taskexpert_resnet", *SETTINGS, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "unknown model 'taskexpert_resnet'" in done.stderr and "with taskexpert_ before it" in done.stderr
