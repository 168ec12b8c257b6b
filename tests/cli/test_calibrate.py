"""`slimpath calibrate`: measures, keeps, shows again; refuses in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slimpath.cli.calibrate import bar, parse_time, warnings
from slimpath.cli.calibrate_tables import call_rows, encoder_rows, head_rows, latency
from slimpath.cli.errors import InputError
from slimpath.runtime import Bundle, Engine
from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.planning.costs import PartCost
from slimpath.runtime.profiling.parity import BackendParity
from slimpath.runtime.profiling.profile import Profile, conditions_of
from slimpath.runtime.profiling.profile_data import profile_folder


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("calibrate_steps", "calibrate_calls"):
        monkeypatch.setattr(f"slimpath.runtime.profiling.{module}.IMAGE_SIZES_HW", ((24, 32), (48, 64)))


@pytest.fixture
def calibrated(slimpath: Callable[..., Any], tiny_bundle: Path, small_pictures: None) -> tuple[Any, Profile]:
    """What the command printed, and the profile that it kept."""
    result = slimpath("calibrate", tiny_bundle, "--time", "1s", "--threads", "1")
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(tiny_bundle)
    conditions = conditions_of(bundle, make_backend("onnxruntime", threads=1), "packed")
    return result, Profile.find(bundle.manifest, conditions)


def test_profile_is_measured_kept_and_printed(calibrated, tiny_bundle):
    result, profile = calibrated
    bundle = Bundle.open(tiny_bundle)
    path = profile_folder(bundle.digest) / f"{profile.data.conditions.key}.json"
    assert path.is_file() and str(path) in result.stdout.replace("\n", "")
    for text in ("32x48 1", "semseg", "whole calls, held out", "Predictions are off by", "energy: unknown"):
        assert text in result.stdout
    assert profile.data.conditions.threads == 1 and profile.data.quality.median_error is not None


def test_engine_takes_the_profile_that_was_kept(calibrated, tiny_bundle, photos):
    _, profile = calibrated
    with Engine.load(tiny_bundle, threads=1) as engine:
        plan = engine.plan("depth", "60s")
        assert plan.costed_by == "profile" and plan.latency_ms and plan.budget_met
        assert (
            engine.planner.plan("depth").latency_ms
            == Engine.load(tiny_bundle, profile=profile).plan("depth").latency_ms
        )
    with Engine.load(tiny_bundle, threads=2) as engine:
        assert engine.profile is None and "threads was 1, is 2" in engine.profile_refusal


def test_show_prints_what_was_measured_and_measures_nothing(slimpath, calibrated, tiny_bundle):
    _, profile = calibrated
    shown = slimpath("calibrate", tiny_bundle, "--show", "--threads", "1", "--json")
    assert shown.exit_code == 0
    document = json.loads(shown.stdout)
    assert document["key"] == profile.key and document["created"] == profile.data.created
    assert document["graphs"][0]["latency_ms"] > 0 and Path(document["path"]).is_file()
    plain = slimpath("calibrate", tiny_bundle, "--show", "--threads", "1")
    assert "kept in" in plain.stdout


def test_show_without_a_profile_says_why(slimpath, tiny_bundle, calibrated):
    refused = slimpath("calibrate", tiny_bundle, "--show", "--threads", "2")
    assert refused.exit_code == 2 and "threads was 1, is 2" in refused.stderr and not refused.stdout
    assert len(refused.stderr.strip().splitlines()) == 1


def test_own_pictures_are_measured_on(slimpath, tiny_bundle, photos, small_pictures):
    arguments = ("calibrate", tiny_bundle, "--time", "1s", "--threads", "1")
    assert slimpath(*arguments, "--images", photos, "--json").exit_code == 0
    refused = slimpath(*arguments, "--images", photos / "nowhere")
    assert refused.exit_code == 2 and "nowhere" in refused.stderr


def test_profile_that_cannot_be_kept_is_shown_all_the_same(slimpath, tiny_bundle, small_pictures, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "profiles").write_text("in the way")
    result = slimpath("calibrate", tiny_bundle, "--time", "1s", "--threads", "1")
    assert result.exit_code == 2 and "cannot be written" in result.stderr
    assert "semseg" in result.stdout and "written to" not in result.stdout


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("2min", 120), ("1.5m", 90), ("90", 90), (" 1 h ", 3600), ("30SEC", 30)]
)
def test_times_are_read(text: str, seconds: float):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0s", "-5s", "0.5s", "25h", "5 days", "1s2", "1e3s"])
def test_times_that_are_none_are_refused(text: str):
    with pytest.raises(InputError, match="from 1s to 24h"):
        parse_time(text)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--time", "soon"), "a time must be from 1s to 24h"),
        (("--backend", "nothing"), "unknown backend"),
        (("--threads", "0"), "--threads"),
        (("--tier", "golden"), "--tier"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(slimpath, tiny_bundle, arguments, reason):
    result = slimpath("calibrate", tiny_bundle, *arguments)
    assert result.exit_code == 2 and reason in result.stderr and not result.stdout


def test_reader_is_warned_of_a_busy_device_and_bad_predictions(calibrated):
    _, profile = calibrated
    manifest = profile._manifest

    def with_quality(**replaced: Any) -> Profile:
        quality = msgspec.structs.replace(profile.data.quality, **replaced)
        return Profile(msgspec.structs.replace(profile.data, quality=quality), manifest)

    assert warnings(with_quality(others_busy=0.02, median_error=0.05)) == []
    assert warnings(with_quality(others_busy=None, median_error=None)) == []
    busy, wrong = warnings(with_quality(others_busy=0.6, median_error=0.3))
    assert "60 % of the CPUs" in busy and "off by 30 %" in wrong


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 2)])
def test_other_backends_are_checked_and_the_outcome_kept(
    slimpath, tiny_bundle, small_pictures, monkeypatch: pytest.MonkeyPatch, passed: bool, code: int
):
    class Twin(OrtBackend):
        name = "twin"

    found = BackendParity("twin", "1", "fp32", "onnxruntime", passed)
    monkeypatch.setattr("slimpath.cli.calibrate.load_backend", lambda *_, **__: Twin(threads=1))
    monkeypatch.setattr("slimpath.runtime.profiling.parity.check_backend", lambda bundle, backend: found)
    arguments = ("calibrate", tiny_bundle, "--time", "1s", "--json")
    result = slimpath(*arguments)
    assert result.exit_code == code and ("fails its parity check: twin/fp32" in result.stderr) == (not passed)
    assert json.loads(result.stdout)["parity"]["twin/fp32"]["passed"] is passed
    assert json.loads(slimpath(*arguments, "--no-parity").stdout)["parity"] == {}


def test_failed_parity_check_is_said_and_fails(slimpath, calibrated, tiny_bundle):
    _, profile = calibrated
    profile.with_parity({"fake/fp32": {"passed": False}, "fine/fp32": {"passed": True}}).save()
    shown = slimpath("calibrate", tiny_bundle, "--show", "--threads", "1")
    assert shown.exit_code == 2 and "fails its parity check: fake/fp32" in shown.stderr
    assert "fine" not in shown.stderr


def test_tables_mark_what_is_modelled(calibrated, tiny_bundle):
    _, profile = calibrated
    manifest = Bundle.open(tiny_bundle).manifest
    few = Profile(msgspec.structs.replace(profile.data, graphs=profile.data.graphs[:2]), manifest)
    cells = [cell for row in encoder_rows(few, manifest) for cell in row]
    assert sum(cell.startswith("~") for cell in cells) == 15  # 2 sizes, 2 widths, 2 top_k, twice each, but for one
    assert len(encoder_rows(few, manifest)) == 8 and len(head_rows(few, manifest, [1.0, 0.5])) == 5
    assert len(call_rows(profile)) <= 12 and call_rows(profile)[0][-1].endswith("%")
    assert latency(PartCost(0, None, 0.0, None, None, False)) == "-"


def test_bar_draws_nothing_where_there_is_no_terminal(capsys):
    with bar(10.0, shown=True) as report:
        report(object())  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "")
