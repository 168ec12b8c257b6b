"""Profiles: sensible in between; stored whole or not at all, refused where they do not hold."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.runtime.backends.fake import FakeBackend
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.errors import ProfileError
from slimpath.runtime.planning.costs import CostModel
from slimpath.runtime.planning.planner import Planner
from slimpath.runtime.profiling.calibrate_points import list_points
from slimpath.runtime.profiling.profile import Profile, conditions_of, stored_profiles
from slimpath.runtime.profiling.profile_data import (
    CallFit,
    CallPoint,
    Conditions,
    GraphPoint,
    PostprocessPoint,
    PreprocessPoint,
    ProfileData,
    Quality,
    profile_folder,
    read_profile,
    write_profile,
)
from slimpath.runtime.profiling.profile_model import Spot, Surface, fit_terms
from slimpath.tests.runtime.fake_device import PaperDevice

SIZE = (32, 48)


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture
def conditions(bundle: Bundle) -> Conditions:
    return conditions_of(bundle, PaperDevice(bundle).backend, "packed")


def make_data(bundle: Bundle, conditions: Conditions, *, every: int = 3, **replaced) -> ProfileData:  # type: ignore[no-untyped-def]
    """A profile that measured every third point of the device on paper."""
    device = PaperDevice(bundle)
    points = [
        GraphPoint(*p.key, device.true_ms(p.graph, p.images, p.rows, p.top_k), 99.0, 20, 0.5 * p.rows, 6.0)
        for p in list_points(bundle.manifest)[::every]
    ]
    data = ProfileData(
        schema_version=1,
        slimpath_version="0",
        created="2026-01-01T00:00:00+00:00",
        conditions=conditions,
        graphs=tuple(points),
        preprocessing=(PreprocessPoint((480, 640), SIZE, 1.0), PreprocessPoint((960, 1280), SIZE, 3.0)),
        postprocessing=(PostprocessPoint("semseg", SIZE, 0.5), PostprocessPoint("depth", SIZE, 0.1)),
        calls=(CallPoint((480, 640), SIZE, 1.0, 2, {"depth": 1.0}, "fp32", 30.0, 33.0, 9, False, 29.0),),
        fit=CallFit(0.2, 0.1, 1.1),
        headroom=1.2,
        quality=Quality(1.0, 5, 5, 1.01, 0.0, 80, 0.03, 0.05),
        meter="paper",
        idle_w=3.0,
        call_power_w=5.0,
    )
    return msgspec.structs.replace(data, **replaced)


@pytest.fixture
def profile(bundle: Bundle, conditions: Conditions) -> Profile:
    return Profile(make_data(bundle, conditions), bundle.manifest)


# --- prices -----------------------------------------------------------------------------------------------------


def test_profile_is_a_cost_model(profile):
    assert isinstance(profile, CostModel) and profile.name == "profile" and profile.headroom == 1.2


def test_measured_point_costs_what_was_measured_times_the_factor_of_a_call(bundle, profile):
    by_file = {graph.file: graph for graph in bundle.manifest.graphs}
    for point in profile.data.graphs:
        graph = by_file[point.graph]
        cost = (
            profile.encoder(graph, images=point.images, rows=point.rows, top_k=point.top_k)
            if graph.kind == "encoder"
            else profile.head(graph, rows=point.rows)
        )
        assert cost.measured and cost.latency_ms == pytest.approx(1.1 * point.latency_ms)
        assert cost.activations_mb == point.activations_mb
        assert cost.energy_mj == pytest.approx(6.0 * cost.latency_ms)
        assert cost.weights_mb == graph.weight_bytes / 1e6


def test_flops_are_exact(bundle, profile):
    graph = bundle.graph("encoder", SIZE, 0.5)
    cost = graph.cost
    expected = 2 * cost.flops_image + 6 * (cost.flops_row + 2 * cost.flops_row_per_expert)
    assert profile.encoder(graph, images=2, rows=6, top_k=2).flops == expected
    head = bundle.graph("head", SIZE, 1.0, "depth")
    assert profile.head(head, rows=3).flops == 3 * head.cost.flops_row


def test_what_was_not_measured_is_interpolated_and_marked(bundle, profile):
    device, wrong = PaperDevice(bundle), []
    for point in list_points(bundle.manifest):
        if point.graph.kind != "encoder" or point.images > 1:
            continue
        cost = profile.encoder(point.graph, images=1, rows=point.rows, top_k=point.top_k)
        true_ms = 1.1 * device.true_ms(point.graph, 1, point.rows, point.top_k)
        wrong.append(abs(cost.latency_ms / true_ms - 1))
        assert cost.measured == any(found.graph == point.graph.file and (found.rows, found.top_k, found.images)
                                    == (point.rows, point.top_k, 1) for found in profile.data.graphs)  # fmt: skip
    assert max(wrong) < 0.1 and float(np.median(wrong)) < 0.03


def test_more_rows_and_experts_never_cost_less(bundle, profile):
    for width in bundle.manifest.widths:
        graph = bundle.graph("encoder", SIZE, width)
        for top_k in (1, 2):
            row = [profile.encoder(graph, images=1, rows=rows, top_k=top_k).latency_ms for rows in range(1, 6)]
            assert row == sorted(row)


def test_call_adds_preprocessing_postprocessing_and_overhead(profile):
    cost = profile.call(SIZE, ["semseg", "depth"])
    assert cost.latency_ms == pytest.approx(0.2 + 2 * 0.1 + 1.1 * (1.0 + 0.5 + 0.1), rel=0.02)
    assert cost.flops == 0 and cost.weights_mb == 0 and cost.energy_mj == pytest.approx(5.0 * cost.latency_ms)
    larger = profile.call(SIZE, ["semseg", "depth"], image_hw=(960, 1280))
    assert larger.latency_ms == pytest.approx(cost.latency_ms + 1.1 * 2.0, rel=0.02)


def test_plans_add_up_and_keep_their_budget(bundle, profile):
    planner = Planner(bundle.manifest, costs=profile)
    full = planner.plan("depth,semseg")
    assert full.costed_by == "profile" and full.latency_ms is not None
    parts = [cost.latency_ms or 0.0 for _, cost in full.parts]
    assert sum(parts) == pytest.approx(full.latency_ms)
    least = planner.plan("depth,semseg", "width=0.5,decoder_width=0.5,top_k=1", size=SIZE)
    assert least.latency_ms is not None
    limit = (full.latency_ms + least.latency_ms) / 2 * profile.headroom
    plan = planner.plan("depth,semseg", f"{limit:.6f}ms", size=SIZE)
    assert plan.budget_met and plan.latency_ms * profile.headroom <= limit


def test_prediction_for_a_larger_picture_adds_its_preprocessing(bundle, profile):
    plan = Planner(bundle.manifest, costs=profile).plan("depth", size=SIZE)
    assert plan.latency_ms is not None and profile.predict_ms(plan) == pytest.approx(plan.latency_ms)
    assert profile.predict_ms(plan, image_hw=(960, 1280)) == pytest.approx(plan.latency_ms + 1.1 * 2.0, rel=0.02)
    point = CallPoint((960, 1280), SIZE, plan.encoder_width, plan.top_k, plan.decoder_widths, "fp32", 1.0, 1.0, 1, True)
    assert profile.configuration_ms(point) == pytest.approx(profile.predict_ms(plan, image_hw=(960, 1280)))


def test_unknown_stays_unknown_and_is_never_0(bundle, conditions):
    points = tuple(
        msgspec.structs.replace(point, activations_mb=None, power_w=None)
        for point in make_data(bundle, conditions).graphs
    )
    data = make_data(bundle, conditions, graphs=points, call_power_w=None, meter="")
    cost = Profile(data, bundle.manifest).encoder(bundle.graph("encoder", SIZE, 1.0), images=1, rows=2, top_k=1)
    assert cost.energy_mj is None and cost.activations_mb is None and cost.latency_ms
    nothing = Profile(msgspec.structs.replace(data, graphs=(), preprocessing=(), postprocessing=()), bundle.manifest)
    assert nothing.encoder(bundle.graph("encoder", SIZE, 1.0), images=1, rows=1, top_k=1).latency_ms is None


def test_key_changes_with_the_figures_only(bundle, conditions, profile):
    assert Profile(make_data(bundle, conditions), bundle.manifest).key == profile.key
    assert Profile(make_data(bundle, conditions, headroom=1.3), bundle.manifest).key != profile.key


# --- kept and refused -------------------------------------------------------------------------------------------


def test_stored_profile_is_found_again(bundle, conditions, profile, own_cache):
    path = profile.save()
    assert path.parent == own_cache / "profiles" / bundle.digest == profile_folder(bundle.digest)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing temporary is left
    found = Profile.find(bundle.manifest, conditions)
    assert found.data == profile.data and found.key == profile.key
    assert list(stored_profiles(bundle.digest)) == [path]
    assert Profile.load(path, bundle.manifest, conditions).key == profile.key


def test_without_any_profile_the_way_on_is_said(bundle, conditions):
    with pytest.raises(ProfileError, match=r"not measured on this device yet.*slimpath calibrate"):
        Profile.find(bundle.manifest, conditions)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backend": "openvino"}, "backend was fake, is openvino"),
        ({"backend_version": "9.9"}, "backend version was 0, is 9.9"),
        ({"threads": 7}, "threads was 1, is 7"),
        ({"tier": "mapped"}, "tier was packed, is mapped"),
        ({"bundle_digest": "f" * 64}, "it is of another version of the bundle"),
        ({"device": {"cpus": 64}}, r"the device's cpus was \d+, is 64"),
        ({"device": {"cpu": "Z80"}}, "the device's cpu was .*, is Z80"),
        ({"device": {"governor": "powersave"}}, "the device's governor was unknown, is powersave"),
    ],
)
def test_profile_of_other_conditions_is_refused_with_the_reason(bundle, conditions, profile, change, reason):
    conditions = msgspec.structs.replace(
        conditions, device=msgspec.structs.replace(conditions.device, governor="", gpus=())
    )
    path = Profile(msgspec.structs.replace(profile.data, conditions=conditions), bundle.manifest).save()
    device = msgspec.structs.replace(conditions.device, **change.get("device", {}))
    now = msgspec.structs.replace(conditions, **{**change, "device": device})
    with pytest.raises(ProfileError, match=reason):
        Profile.find(bundle.manifest, now)
    with pytest.raises(ProfileError, match=reason):
        Profile.load(path, bundle.manifest, now)
    Profile.load(path, bundle.manifest, conditions)


def test_of_several_the_nearest_gives_the_reason(bundle, conditions, profile):
    for threads in (1, 2):
        far = msgspec.structs.replace(conditions, threads=threads, backend="other", backend_version="1")
        Profile(msgspec.structs.replace(profile.data, conditions=far), bundle.manifest).save()
    profile.save()
    with pytest.raises(ProfileError) as caught:
        Profile.find(bundle.manifest, msgspec.structs.replace(conditions, threads=9))
    assert caught.value.message == "no profile holds here; the nearest differs: threads was 1, is 9"


def test_profile_of_another_bundle_is_named(bundle, conditions, profile):
    now = msgspec.structs.replace(conditions, bundle_name="other")
    with pytest.raises(ProfileError, match="it is of another bundle, tiny"):
        profile.check(msgspec.structs.replace(now, bundle_digest="e" * 64))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[1]",
        lambda text: json.dumps({**json.loads(text), "headroom": "much"}),
        lambda text: json.dumps({**json.loads(text), "new_field": 1}),
        lambda text: json.dumps({**json.loads(text), "schema_version": 2}),
        lambda text: "\0" * 100,
        lambda text: "[" * 100_000,
    ],
)
def test_damaged_profile_is_refused_never_half_read(bundle, conditions, profile, damage):
    path = profile.save()
    path.write_text(damage(path.read_text()))
    with pytest.raises(ProfileError, match="measure again with `slimpath calibrate`"):
        Profile.find(bundle.manifest, conditions)
    assert stored_profiles(bundle.digest) == {}


def test_profile_that_cannot_be_written_says_where(profile, own_cache):
    (own_cache / "profiles").write_text("in the way")
    with pytest.raises(ProfileError, match="cannot be written"):
        write_profile(profile.data)


def test_missing_file_is_refused(bundle, conditions, tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        read_profile(tmp_path / "nothing.json")


def test_conditions_say_what_the_backend_is(bundle):
    class Other(FakeBackend):
        name, version, threads = "other", "7.1", 3

    found = conditions_of(bundle, Other(lambda _: None), "mapped")  # type: ignore[arg-type]
    assert (found.backend, found.backend_version, found.threads, found.tier) == ("other", "7.1", 3, "mapped")
    assert found.bundle_digest == bundle.digest and found.key.startswith("other-")


# --- the interpolation ------------------------------------------------------------------------------------------


def spot(work: float, place: float, label: str = "") -> Spot:
    return Spot((1.0, work), 1, (place,), (label,))


def test_surface_gives_back_what_it_was_given():
    values = [3.0, 5.0, 4.0, 9.0]
    spots = [spot(w, p) for w, p in ((1, 0), (2, 1), (3, 2), (4, 3))]
    surface = Surface(spots, values)
    assert [surface.at(s) for s in spots] == pytest.approx(values, rel=0.01)


def test_surface_follows_its_law_far_away():
    spots = [spot(w, np.log2(w)) for w in (1.0, 2.0, 4.0, 8.0)]
    surface = Surface(spots, [0.5 + 2 * w for w in (1.0, 2.0, 4.0, 8.0)])
    assert surface.at(spot(3.0, np.log2(3.0))) == pytest.approx(6.5, rel=0.02)
    assert surface.at(spot(64.0, 6.0)) == pytest.approx(128.5, rel=0.05)


def test_one_point_scales_with_work():
    surface = Surface([spot(2.0, 1.0)], [10.0])
    assert surface.at(spot(4.0, 2.0)) == pytest.approx(20.0, rel=0.1)


def test_what_one_task_is_slower_by_stays_with_that_task():
    spots = [spot(w, np.log2(w), task) for task in ("a", "b") for w in (1.0, 4.0)]
    surface = Surface(spots, [1.0, 4.0, 2.0, 8.0])
    between = surface.at(spot(2.0, 1.0, "b")) / surface.at(spot(2.0, 1.0, "a"))
    assert 1.6 < between < 2.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1000.0), min_size=1, max_size=12), st.floats(0.1, 50.0), st.floats(-3, 8))
def test_surface_is_positive_everywhere(values, work, place):
    spots = [spot(1.0 + i, float(i)) for i in range(len(values))]
    found = Surface(spots, values).at(spot(work, place))
    assert np.isfinite(found) and found > 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 10)] * 3), min_size=3, max_size=8), st.tuples(*[st.floats(0, 5)] * 3))
def test_terms_that_fit_exactly_are_found_and_none_is_negative(rows, wanted):
    terms = np.array(rows)
    values = terms @ np.array(wanted)
    fit = fit_terms(terms, values)
    assert (fit >= 0).all()
    assert np.linalg.norm(terms @ fit - values) <= 1e-6 * max(1.0, float(np.linalg.norm(values)))


def test_term_that_would_be_negative_is_left_out():
    terms = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert fit_terms(terms, np.array([3.0, 2.0, 1.0])) == pytest.approx([2.0, 0.0])
