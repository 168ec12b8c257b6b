"""A network with one task more: what it begins from, and what cannot change."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slimpath.models import HeadConfig, ModelConfig, MultiTaskModel, folded
from slimpath.runtime.bundles.preprocessing import Preprocessing
from slimpath.tests.export.conftest import TASKS, random_model
from slimpath.tests.training.packs.conftest import ToyBlobs
from slimpath.training.augment import IMAGE_MEAN, IMAGE_STD
from slimpath.training.errors import ConfigError, TrainingError
from slimpath.training.kernels import fast_cpu_kernels
from slimpath.training.packs.learning import default_like, frozen_state, own_parts, with_task
from slimpath.training.packs.trainer import PackConfig, PackTrainer

BLOBS = HeadConfig("blobs", "classes", 2)
PLAIN = Preprocessing("letterbox", IMAGE_MEAN, IMAGE_STD)


def test_it_begins_from_the_task_of_its_kind_wherever_shapes_agree(network: MultiTaskModel) -> None:
    grown = with_task(network, BLOBS)
    assert default_like(network, BLOBS) == "semseg"
    for name, value in own_parts(grown, "blobs").state_dict().items():
        part, rest = name.split(".", 1)
        start = network.state_dict()[f"{part}s.semseg.{rest}"]
        assert torch.equal(value, start) == (value.shape == start.shape), name


@pytest.mark.parametrize(
    ("kind", "channels", "like"), [("depth", 1, "semseg"), ("image_classes", 7, "scene"), ("normals", 3, "semseg")]
)
def test_without_a_task_of_its_kind_it_begins_from_one_with_such_a_head(
    network: MultiTaskModel, kind: str, channels: int, like: str
) -> None:
    assert default_like(network, HeadConfig("new", kind, channels)) == like  # type: ignore[arg-type]


def test_experts_that_paths_rule_out_are_open_to_the_new_task() -> None:
    model = random_model("m3vit_micro", TASKS[:1])
    with torch.no_grad():
        model.routers["semseg"].bias[0][0] = -torch.inf  # type: ignore[index, union-attr]
    grown = with_task(model, BLOBS)
    assert all(bool(value.isfinite().all()) for value in own_parts(grown, "blobs").state_dict().values())


def test_only_its_own_parts_learn(network: MultiTaskModel) -> None:
    grown = with_task(network, BLOBS)
    learning = {name for name, parameter in grown.named_parameters() if parameter.requires_grad}
    assert learning == set(dict(grown.named_parameters())) - set(frozen_state(grown, "blobs"))
    assert {name.split(".")[0] for name in learning} == {"routers", "heads"}


def test_a_task_that_exists_or_a_start_that_does_not_is_refused(network: MultiTaskModel) -> None:
    with pytest.raises(ConfigError, match="there is a task 'scene' already"):
        with_task(network, HeadConfig("scene", "image_classes", 2))
    with pytest.raises(ConfigError, match="no task 'nothing' to begin from"):
        with_task(network, BLOBS, "nothing")


def _grow(model: MultiTaskModel) -> MultiTaskModel:
    """What has no start in the other task is drawn: the same every time."""
    torch.manual_seed(0)
    return with_task(model, BLOBS)


def _train(model: MultiTaskModel, **settings: object) -> tuple[MultiTaskModel, list[float]]:
    grown = _grow(model)
    config = PackConfig(**{"steps": 6, "batch": 2, "warmup_steps": 2, "precision": "fp32", **settings})  # type: ignore[arg-type]
    return grown, PackTrainer(grown, BLOBS, ToyBlobs(0, 8), PLAIN, config).run()


def test_training_changes_its_own_parts_and_not_one_bit_else(network: MultiTaskModel) -> None:
    before = _grow(network)
    after, losses = _train(network)
    for name, value in frozen_state(before, "blobs").items():
        assert torch.equal(value, frozen_state(after, "blobs")[name]), name
    start, end = own_parts(before, "blobs").state_dict(), own_parts(after, "blobs").state_dict()
    for part in ("router", "head"):
        assert any(not torch.equal(start[name], end[name]) for name in start if name.startswith(part)), part
    assert len(losses) == 6 and all(loss == loss for loss in losses)


def test_equal_seeds_give_equal_tasks_and_others_do_not(network: MultiTaskModel) -> None:
    first, again, other = (_train(network, seed=seed)[0] for seed in (3, 3, 4))
    states = [own_parts(model, "blobs").state_dict() for model in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_it_learns(network: MultiTaskModel) -> None:
    _, losses = _train(network, steps=30, batch=4, lr=5e-3)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_other_size_learns_with_the_same_parameters(network: MultiTaskModel) -> None:
    """All steps at the smaller size: the network of the bundle's size has learnt by them."""
    before = own_parts(_grow(network), "blobs").state_dict()
    after, _ = _train(network, coarse=1.0)
    assert any(not torch.equal(before[name], value) for name, value in own_parts(after, "blobs").state_dict().items())


@pytest.mark.parametrize(
    "settings",
    [{"adapter_blocks": (1,)}, {"adapter_blocks": (2, 3), "adapter_on": ("qkv", "fc1", "feed"), "shared_rank": 2}],
)
def test_adapters_learn_too(settings: dict[str, Any]) -> None:
    model = folded(random_model("m3vit_micro", TASKS[:1], adapter_rank=2, image_hw=(64, 64), **settings))
    assert isinstance(model.config, ModelConfig)
    before = own_parts(_grow(model), "blobs").state_dict()
    after = own_parts(_train(model)[0], "blobs").state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"router", "adapters", "head"}


def test_a_loss_that_is_not_finite_stops_it(network: MultiTaskModel) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        _train(network, lr=1e30, warmup_steps=0)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"batch": 0}, {"lr": 0.0}, {"coarse": 2.0}, {"precision": "int8"}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PackConfig(**settings)  # type: ignore[arg-type]


def test_beside_frozen_experts_the_fast_kernels_give_the_plain_gradients(network: MultiTaskModel) -> None:
    grown = with_task(network, BLOBS)
    image, index = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.arange(2)
    gradients = []
    for fast in (False, True):
        grown.zero_grad(set_to_none=True)
        with fast_cpu_kernels(fast):
            features = grown.encode(image, index, ["blobs"] * 2, torch.tensor([1, 2]))
        grown.decode("blobs", features, index, index).square().mean().backward()
        gradients.append({name: p.grad for name, p in own_parts(grown, "blobs").named_parameters()})
        assert all(p.grad is None for p in grown.encoder.parameters())
    for name, plain in gradients[0].items():
        assert plain is not None and torch.allclose(plain, gradients[1][name], rtol=1e-4, atol=1e-6), name  # type: ignore[arg-type]
    assert any(
        bool(g.abs().max() > 0) for name, g in gradients[0].items() if name.startswith("router") and g is not None
    )
