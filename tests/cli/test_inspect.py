"""`slimpath inspect`: true about a good bundle, and not silent about a damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimpath.cli.inspect import provenance_rows
from slimpath.runtime import Planner
from slimpath.runtime.bundles.bundle import Bundle


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copied"))


def test_sizes_are_those_of_the_files(slimpath: Callable[..., Any], tiny_bundle: Path):
    document = json.loads(slimpath("inspect", tiny_bundle, "--verify", "--json").stdout)
    assert document["bytes"] == sum(path.stat().st_size for path in tiny_bundle.iterdir())
    assert document["weights_bytes"] == (tiny_bundle / "weights.safetensors").stat().st_size
    assert document["verified"]
    assert document["size_rule"]["passed"]


def test_full_configuration_costs_what_the_planner_says(slimpath: Callable[..., Any], tiny_bundle: Path):
    document = json.loads(slimpath("inspect", tiny_bundle, "--json").stdout)
    planner = Planner(Bundle.open(tiny_bundle).manifest)
    full = planner.plan(None)
    rows = {(tuple(row["size_hw"]), row["width"], row["top_k"]): row for row in document["configurations"]}
    row = rows[full.size_hw, 1.0, document["encoder"]["top_k"]]
    assert row["flops_encoder"] + row["flops_heads"] == planner.full_flops(full.tasks, full.size_hw)


def test_report_names_every_file_and_task(slimpath: Callable[..., Any], tiny_bundle: Path):
    shown = slimpath("inspect", tiny_bundle).stdout
    for path in tiny_bundle.glob("*.onnx"):
        assert path.name in shown
    for part in ("semseg", "scene", "pass", "the rule allows", "accuracies", "configurations"):
        assert part in shown


def test_provenance_counts_settings_instead_of_listing_them():
    rows = provenance_rows({"data": "SynthRooms", "step": 4, "training": {"lr": 0.1, "steps": 4}})
    assert rows == [("data", "SynthRooms"), ("step", "4"), ("training", "2 settings; --json shows them")]


def test_bundle_that_is_too_heavy_fails(slimpath: Callable[..., Any], copied: Path):
    (copied / "left-over.bin").write_bytes(bytes(2_100_000))
    done = slimpath("inspect", copied)
    assert done.exit_code == 2
    assert "FAIL" in done.stdout
    assert "weighs" in done.stderr


def test_graph_that_failed_its_parity_check_fails(slimpath: Callable[..., Any], copied: Path):
    manifest = json.loads((copied / "manifest.json").read_text())
    graph = manifest["graphs"][0]
    error = {
        "max_abs_error": 1.0,
        "max_abs_reference": 1.0,
        "min_gap": None,
        "seed": 0,
        "tolerance": 1e-4,
        "passed": False,
    }
    graph["parity"] = error
    (copied / "manifest.json").write_text(json.dumps(manifest))
    done = slimpath("inspect", copied)
    assert done.exit_code == 2
    assert graph["file"] in done.stderr


def test_changed_weights_are_found(slimpath: Callable[..., Any], copied: Path):
    weights = copied / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = slimpath("inspect", copied, "--verify")
    assert done.exit_code == 2
    assert "SHA-256" in done.stderr
    assert "Traceback" not in done.output
