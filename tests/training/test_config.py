"""Settings: round trip, overrides, refusals."""

from __future__ import annotations

from itertools import pairwise

import pytest

from slimpath.training.config import Stage, TrainConfig
from slimpath.training.errors import ConfigError
from slimpath.training.presets import PRESETS, preset, with_overrides
from slimpath.training.schedule import learning_rate, stage_at, stage_starts
from slimpath.training.tasks import train_tasks


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json(name: str):
    config = preset(name)
    assert TrainConfig.from_json(config.to_json()) == config


def test_overrides_reach_nested_settings_with_their_types():
    config = with_overrides(
        preset("smoke"),
        [
            "lr=1e-4",
            "steps=7",
            "sandwich=false",
            "tasks=depth,edge",
            "data.shards=rooms",
            "data.render_hw=64x96",
            "augment.flip=0",
            "loss_weights.depth=3",
            "stages=32x48:8:1",
        ],
    )
    assert (config.lr, config.steps, config.sandwich) == (1e-4, 7, False)
    assert config.tasks == ("depth", "edge")
    assert (config.data.shards, config.data.render_hw) == ("rooms", (64, 96))
    assert isinstance(config.augment.flip, float) and config.augment.flip == 0
    assert config.loss_weights["depth"] == 3 and config.loss_weights["edge"] == 1
    assert config.stages == (Stage((32, 48), 8, 1.0),)
    assert with_overrides(config, ["data.shards=none"]).data.shards is None


def test_none_is_a_word_where_a_setting_is_text():
    config = with_overrides(preset("smoke"), ["methods.sharpness=flat"])
    assert with_overrides(config, ["methods.sharpness=none"]).methods.sharpness == "none"
    assert with_overrides(config, ["methods.balance=none"]).methods.balance is None
    with pytest.raises(ConfigError, match="'bf16' or 'fp32', got 'none'"):
        with_overrides(config, ["precision=none"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "key=value"),
        ("learning_rate=1", "no setting 'learning_rate'"),
        ("data.sharts=1", "no setting 'data.sharts'"),
        ("lr.x=1", "no setting 'lr.x'"),
        ("steps=many", "steps must be int"),
        ("steps=0", "at least 1"),
        ("steps=true", "steps must be int"),
        ("precision=fp16", "'bf16' or 'fp32'"),
        ("schedule=linear", "'cosine' or 'trapezoid'"),
        ("stages=64:8", "HEIGHTxWIDTH:BATCH:SHARE"),
        ("stages=64x64:7:1", "multiple of data.rows_per_image"),
        ("tasks=depth", "differ in their task; got 2; give data.rows_per_image=1"),
        (
            "data.rows_per_image=7",
            "at least 1 and at most 6, the number of tasks, as the rows of a picture differ in their task; got 7",
        ),
        ("data.rows_per_image=0", "differ in their task; got 0; give data.rows_per_image=6"),
        ("tasks=[]", "at least one name, got none"),
        ("device=gpu", "'cpu', 'cuda' or 'cuda:NUMBER', got 'gpu'"),
        ("device=cuda:x", "'cpu', 'cuda' or 'cuda:NUMBER', got 'cuda:x'"),
        ("stages=64x64:8:0", "share above 0"),
        ("tasks=depth,parsing", "loss_weights.parsing"),
        ("data.render_hw=64", "takes 2 values"),
    ],
)
def test_impossible_override_is_refused_with_its_reason(override: str, message: str):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        with_overrides(preset("smoke"), [override])


@pytest.mark.parametrize("text", ["{", '{"no_such": 1}', "[]", '{"data": 3}'])
def test_json_that_is_no_config_is_refused(text: str):
    with pytest.raises(ConfigError):
        TrainConfig.from_json(text)


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="bundled, bundled-wide, smoke"):
        preset("huge")


def test_tasks_need_names_that_exist_once_and_classes_where_they_have_some():
    assert [task.channels for task in train_tasks(("semseg", "normals", "edge"), {"semseg": 15})] == [15, 3, 1]
    for names, match in ((("parsing",), "must be one of"), (("depth", "depth"), "none twice"), ((), "at least one")):
        with pytest.raises(ConfigError, match=match):
            train_tasks(names, {})
    with pytest.raises(ConfigError, match="has classes"):
        train_tasks(("semseg",), {})


def test_stages_share_the_steps_and_follow_each_other():
    config = TrainConfig(steps=10, stages=(Stage((32, 32), 4, 0.3), Stage((64, 64), 2, 0.7)))
    assert stage_starts(config) == [0, 3, 10]
    assert [stage_at(config, step)[0].image_hw[0] for step in (0, 2, 3, 9)] == [32, 32, 64, 64]
    assert stage_at(config, 2)[1] == 3 and stage_at(config, 3)[1] == 10


@pytest.mark.parametrize("schedule", ["cosine", "trapezoid"])
def test_learning_rate_warms_up_peaks_and_ends_low(schedule: str):
    config = TrainConfig(steps=100, warmup_steps=10, lr=1e-3, lr_end=1e-5, schedule=schedule, cooldown=0.3)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-3)
    assert rates[100] == pytest.approx(1e-5)
    assert all(a <= b + 1e-12 for a, b in pairwise(rates[:11]))
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[10:]))
