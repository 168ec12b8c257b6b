"""What a task needs of the weights, and that it touches nothing else of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

import slimpath
from slimpath.runtime import Bundle, TaskError
from slimpath.runtime.bundles.manifest import MANIFEST_FILE, encode_manifest
from slimpath.runtime.footprint import residency as residency_module
from slimpath.runtime.footprint.residency import WeightMap, merged, reachable_experts
from slimpath.runtime.running.routing import Routers

from ..expert_bundle import EXPERTS, KEPT, build_expert_bundle

SCRIPT = Path(slimpath.__file__).parent / "benchmarks" / "untouched.py"
AROUND = 64 << 10  # what the kernel may map around a page that was read
EXPERT = 2 * 32 * 4096 * 4

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/pagemap, protects pages of a mapping")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_expert_bundle(tmp_path_factory.mktemp("bundles") / "experts")


def without_paths(folder: Path, out: Path) -> Bundle:
    """The same bundle, as if nobody had measured which experts the tasks visit."""
    manifest = Bundle.open(folder).manifest
    routers = {task: msgspec.structs.replace(r, paths=None) for task, r in manifest.encoder.routers.items()}
    encoder = msgspec.structs.replace(manifest.encoder, routers=routers)
    out.mkdir()
    for file in folder.iterdir():
        os.link(file, out / file.name)
    (out / MANIFEST_FILE).unlink()
    (out / MANIFEST_FILE).write_bytes(encode_manifest(msgspec.structs.replace(manifest, encoder=encoder)))
    return Bundle.open(out)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`benchmarks/untouched.py` in a process of its own."""
    command = [sys.executable, str(SCRIPT), str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_task_needs_its_experts_and_what_all_tasks_share(folder: Path) -> None:
    weights = WeightMap(Bundle.open(folder))
    left = weights.task("left")
    assert (left.shared, left.experts, left.kept) == (32 * 3 * 16 * 16 * 4, 2 * EXPERT, (2,))
    assert (left.head, left.routers) == (32 * 3 * 4, 32 * EXPERTS * 4 + EXPERTS * 4)
    assert left.total == left.shared + left.experts + left.head + left.routers


def test_several_tasks_share_what_is_shared(folder: Path) -> None:
    report = WeightMap(Bundle.open(folder)).residency(["left", "right"])
    alone = list(report.tasks.values())
    assert report.together == alone[0].total + alone[1].total - alone[0].shared
    assert report.all_experts == EXPERTS * EXPERT < report.weights_file
    assert json.loads(json.dumps(report.to_json()))["tasks"]["right"]["total"] == alone[1].total


def test_without_paths_every_expert_is_needed(folder: Path, tmp_path: Path) -> None:
    bundle = without_paths(folder, tmp_path / "open")
    assert reachable_experts(bundle.manifest, "left") == (tuple(range(EXPERTS)),)
    assert WeightMap(bundle).task("left").experts == EXPERTS * EXPERT
    assert WeightMap(bundle).foreign(["left"]) == {}


def test_narrower_graphs_need_less(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    wide, narrow = WeightMap(bundle).task("depth"), WeightMap(bundle, width=0.5, decoder_widths={"depth": 0.5})
    assert narrow.task("depth").shared < wide.shared and narrow.task("depth").head < wide.head
    assert wide.shared == bundle.graph("encoder", bundle.manifest.sizes[0], 1.0).weight_bytes


def test_dense_bundle_has_no_experts(dense_bundle: Path) -> None:
    needs = WeightMap(Bundle.open(dense_bundle)).task("depth")
    assert (needs.experts, needs.routers, needs.kept) == (0, 0, ())


def test_unknown_task_is_refused(folder: Path) -> None:
    with pytest.raises(TaskError, match="unknown task 'up'"):
        WeightMap(Bundle.open(folder)).task("up")


def test_touched_bytes_are_unknown_where_the_system_does_not_tell(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> np.ndarray:
        raise PermissionError("not yours")

    monkeypatch.setattr(residency_module, "touched_pages", refuse)
    report = WeightMap(Bundle.open(folder)).residency()
    assert report.touched is None and report.to_json()["touched"] is None


def test_ranges_merge_to_the_same_bytes() -> None:
    assert merged([(30, 5), (0, 10), (5, 10), (15, 1), (31, 2)]) == [(0, 16), (30, 5)]
    assert merged([]) == []


def test_every_expert_can_be_let_in_again(folder: Path) -> None:
    """What the cost of leaving experts out is measured against."""
    bundle = Bundle.open(folder)
    kept, opened = Routers(bundle).stack(["left"])[1], Routers(bundle, all_experts=True).stack(["left"])[1]
    outside = [expert for expert in range(EXPERTS) if expert not in KEPT["left"]]
    assert np.isneginf(kept[0, 0, outside]).all() and np.isfinite(opened).all()
    np.testing.assert_array_equal(kept[0, 0, list(KEPT["left"])], opened[0, 0, list(KEPT["left"])])


@linux_only
@pytest.mark.parametrize("task", ["left", "right"])
def test_task_does_not_touch_the_experts_of_the_other(folder: Path, task: str) -> None:
    done = run(folder, task)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    own, foreign = 2 * EXPERT, 4 * EXPERT
    assert (report["tasks"][task]["experts"], report["foreign"]) == (own, foreign)
    assert report["touched"]["experts"] - report["touched"]["foreign"] >= own - AROUND  # its own were read
    assert report["touched"]["foreign"] <= 4 * AROUND  # at both ends of its own two runs of experts
    assert report["forbidden"] >= foreign - 8 * 2 * 4096  # and could not have been read later
    # Other pictures, other answers, all of them probabilities: the experts that it may read do their work.
    assert np.sum(report["answers"], axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert np.ptp(report["answers"], axis=0).max() > 1e-3


@linux_only
def test_forbidden_experts_are_really_out_of_reach(folder: Path) -> None:
    """The proof above can fail: the other task reads what was forbidden, and dies of it."""
    done = run(folder, "left", "--then", "right")
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert json.loads(done.stdout)["task"] == "left"


@linux_only
def test_model_whose_experts_do_not_fit_into_memory_answers(tmp_path: Path) -> None:
    """The whole process, interpreter and libraries included, stays smaller than the experts of its model."""
    folder = build_expert_bundle(tmp_path / "large", dim=256, hidden=20480)
    done = run(folder, "left", "--images", "3")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["all_experts"] == EXPERTS * 2 * 256 * 20480 * 4
    assert report["peak_bytes"] < report["all_experts"] < report["weights_file"]
