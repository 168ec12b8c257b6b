"""Every method trains, leaves its mark, and resumes to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from slimpath.tests.training.conftest import TOY_CLASSES, ToyRooms, toy_config
from slimpath.training.config import Stage, TrainConfig
from slimpath.training.errors import ConfigError, ResumeError
from slimpath.training.methods.settings import MethodConfig
from slimpath.training.presets import with_overrides
from slimpath.training.run_train import train
from slimpath.training.state import load_state
from slimpath.training.trainer import Trainer

ROOMS = ToyRooms(size_hw=(48, 48))
METHODS = {
    "features and saliencies": MethodConfig(ci_kd=0.5, rep_tsr=1.0, rep_csa=1.0),
    "samo, learnt weights": MethodConfig(sharpness="samo", rho=0.05, weighting="uncertainty"),
    "flat, pcgrad": MethodConfig(sharpness="flat", rho=0.05, aggregate="pcgrad", balance="per_task"),
}


def config_of(methods: MethodConfig) -> TrainConfig:
    """Two steps of the widest and the narrowest pass, with another resolution in the second."""
    stages = (Stage((32, 32), 6, 0.5), Stage((48, 48), 6, 0.5))
    return toy_config(methods=methods, steps=2, stages=stages, random_widths=0)


def run(config: TrainConfig, out: Path) -> dict[str, Any]:
    train(config, out, progress=False, source=ROOMS, classes=TOY_CLASSES)
    return load_state(out / "state.pt")


def run_in_two(config: TrainConfig, out: Path) -> dict[str, Any]:
    """The first step by hand, saved; the rest by another trainer, in another state of the random numbers."""
    first = Trainer(config, ROOMS, TOY_CLASSES, out)
    first.train_step(first.maker(0, 0, 6, (32, 32)))
    out.mkdir()
    first.save()
    torch.manual_seed(99)
    return run(config, out)


def flattened(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    moments = state["optimizer"]["state"]
    found = {**state["model"], **{f"average.{name}": value for name, value in state["average"].items()}}
    found |= {f"moment.{i}.{name}": value for i, part in moments.items() for name, value in part.items()}
    if state["uncertainty"]:
        found |= {f"uncertainty.{name}": value for name, value in state["uncertainty"]["values"].items()}
    return found | {"rng": state["rng"]}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training without any method."""
    out = tmp_path_factory.mktemp("plain")
    run(config_of(MethodConfig()), out)
    return out


@pytest.mark.parametrize("name", METHODS)
def test_method_resumes_to_the_bit_and_leaves_its_mark(name: str, plain: Path, tmp_path: Path):
    config = config_of(METHODS[name])
    whole, parts = flattened(run(config, tmp_path / "whole")), flattened(run_in_two(config, tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []
    assert all(torch.isfinite(value).all() for value in whole.values() if value.is_floating_point())
    without = load_state(plain / "state.pt")["model"]
    assert any(not torch.equal(without[key], whole[key]) for key in without)
    if "learnt" in name:
        assert any(float(value) != 0 for key, value in whole.items() if key.startswith("uncertainty"))


@pytest.mark.parametrize(
    ("model", "size", "precision", "methods"),
    [
        ("m3vit_micro", 32, "bf16", MethodConfig(ci_kd=0.5, rep_tsr=1.0, rep_csa=1.0, sharpness="flat", rho=0.05)),
        ("vit_micro", 32, "fp32", MethodConfig(ci_kd=0.5, rep_tsr=1.0, rep_csa=1.0, sharpness="samo", rho=0.05)),
        ("mtlora_micro", 64, "fp32", MethodConfig(ci_kd=0.5, sharpness="flat", rho=0.05, aggregate="mgda")),
    ],
)
def test_methods_train_every_family_of_models(
    model: str, size: int, precision: str, methods: MethodConfig, tmp_path: Path
):
    stages = (Stage((size, size), 12, 1.0),)
    trainer = Trainer(
        toy_config(model=model, precision=precision, methods=methods, stages=stages, random_widths=0),
        ROOMS,
        TOY_CLASSES,
        tmp_path,
    )
    for step in range(2):  # at the first, heads still say nothing
        shown = trainer.train_step(trainer.maker(step, 3 * step, 6, (size, size)))
        assert all(bool(torch.isfinite(value)) for value in shown.values()) and float(shown["grad_norm"]) > 0


def test_another_method_is_another_training(plain: Path):
    with pytest.raises(ResumeError, match="methods"):
        run(config_of(MethodConfig(sharpness="flat")), plain)


def test_settings_of_methods_are_overridden_and_survive_json():
    config = with_overrides(TrainConfig(), ["methods.sharpness=samo", "methods.ci_kd=1", "methods.router_noise=0"])
    assert config.methods == MethodConfig(sharpness="samo", ci_kd=1.0, router_noise=0.0)
    assert TrainConfig.from_json(config.to_json()) == config
    assert TrainConfig.from_json("{}").methods == MethodConfig()
    with pytest.raises(ConfigError, match="none, samo, flat"):
        with_overrides(TrainConfig(), ["methods.sharpness=sam"])


def test_saliencies_need_one_representation(tmp_path: Path):
    for name in ("swin_micro", "taskexpert_m3vit_micro"):
        config = toy_config(model=name, methods=MethodConfig(rep_tsr=1.0), stages=(Stage((64, 64), 12, 1.0),))
        with pytest.raises(ConfigError, match="several levels"):
            Trainer(config, ROOMS, TOY_CLASSES, tmp_path)


def test_router_settings_reach_the_model(tmp_path: Path):
    config = toy_config(methods=MethodConfig(router_noise=0.0, balance="per_task"))
    model = Trainer(config, ROOMS, TOY_CLASSES, tmp_path).model
    assert (model.config.router_noise, model.config.balance) == (0.0, "per_task")
    assert Trainer(toy_config(), ROOMS, TOY_CLASSES, tmp_path).model.config.router_noise == 1.0
