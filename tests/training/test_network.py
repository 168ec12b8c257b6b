"""The network of a training is what its settings say."""

from __future__ import annotations

from typing import Any

from slimpath.tests.training.conftest import TOY_CLASSES, toy_config
from slimpath.training.methods.settings import MethodConfig
from slimpath.training.network import fresh_network
from slimpath.training.tasks import train_tasks

TASKS = train_tasks(("semseg", "depth"), TOY_CLASSES)


def test_preset_has_a_head_per_task_at_the_first_stages_size():
    config = toy_config(methods=MethodConfig(router_noise=0.5, balance="per_task"))
    found: Any = fresh_network(config, TASKS).config
    assert found.image_hw == (32, 32)
    assert [(head.name, head.kind, head.channels) for head in found.tasks] == [
        ("semseg", "classes", 3),
        ("depth", "depth", 1),
    ]
    assert (found.router_noise, found.balance) == (0.5, "per_task")


def test_methods_that_are_not_set_leave_the_presets_own_routing():
    plain: Any = fresh_network(toy_config(), TASKS).config
    assert plain.balance == "joint" and plain.router_noise != 0.5
