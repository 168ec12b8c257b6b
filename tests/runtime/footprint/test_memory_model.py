"""What sessions are expected to hold, and what the machine has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.footprint.memory_model import MemoryModel, available_mb, private_mb, process_mb


@pytest.fixture
def encoders(tiny_bundle):
    """Narrow and wide, of one size."""
    bundle = Bundle.open(tiny_bundle)
    return [bundle.graph("encoder", (32, 48), width) for width in (0.5, 1.0)]


@pytest.fixture
def model(tiny_bundle) -> MemoryModel:
    return MemoryModel(Bundle.open(tiny_bundle).manifest, 50.0)


def test_narrower_mapped_encoder_adds_its_graph_and_no_weights(model, encoders):
    narrow, wide = encoders
    alone, both = model.total_mb([(wide, "mapped")]), model.total_mb([(wide, "mapped"), (narrow, "mapped")])
    assert both - alone == pytest.approx(private_mb(narrow, "mapped"))


def test_packed_session_adds_its_weights(model, encoders):
    wide = encoders[1]
    added = model.total_mb([(wide, "packed")]) - model.total_mb([])
    assert added > wide.weight_bytes / 1e6
    assert private_mb(wide, "packed") - private_mb(wide, "mapped") == pytest.approx(wide.weight_bytes * 1.06 / 1e6)


def test_nothing_loaded_is_the_base(model):
    assert model.total_mb([]) == 50.0


def test_more_rows_need_a_larger_arena(model, encoders):
    loaded = [(encoders[1], "mapped")]
    assert model.total_mb(loaded, 6) > model.total_mb(loaded, 1) == model.total_mb(loaded)


def test_room_for_a_plan_shrinks_with_its_tasks_and_the_activations_that_nobody_knows(model):
    one = model.room_mb(200.0, ["depth"], with_activations=False)
    two = model.room_mb(200.0, ["depth", "edge"], with_activations=False)
    assert two < one < model.room_mb(200.0, ["depth"], with_activations=True) < 150.0


def test_process_holds_something_and_unknown_is_a_round_number(tmp_path):
    assert process_mb() > 5
    assert process_mb(tmp_path) == 100.0


def machine(root: Path, groups: str, files: dict[str, int | str], free_kb: int | None = 8_000_000) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    if free_kb is not None:
        (root / "proc/meminfo").write_text(f"MemTotal: 9000000 kB\nMemAvailable: {free_kb} kB\n")
    for name, value in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(f"{value}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected_mb"),
    [
        ("0::/\n", {}, 8192),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/b/memory.current": 5}, 8192),
        ("0::/a/b\n", {"a/b/memory.max": 300_000_000, "a/b/memory.current": 100_000_000}, 200),
        ("0::/a/b\n", {"a/memory.max": 300_000_000, "a/memory.current": 250_000_000}, 50),  # the group around ours
        ("0::/a\n", {"a/memory.max": 100_000_000, "a/memory.current": 250_000_000}, 0),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": 2**63 - 4096, "memory/a/memory.usage_in_bytes": 5}, 8192),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": 9 * 10**8, "memory/a/memory.usage_in_bytes": 10**8}, 800),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "broken"}, 8192),
    ],
)
def test_what_is_free_is_the_least_of_machine_and_control_groups(tmp_path, groups, files, expected_mb):
    assert available_mb(machine(tmp_path, groups, files)) == pytest.approx(expected_mb)


def test_what_is_free_is_unknown_where_the_system_does_not_say(tmp_path):
    assert available_mb(machine(tmp_path, "", {}, free_kb=None)) is None
