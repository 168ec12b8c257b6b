"""Training of one new task beside a frozen backbone: its routers, adapters and head, at every width at once.

Axes: I images (a row each), H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models import HeadConfig, MultiTaskModel
from ...models.config import ModelConfig
from ...runtime.bundles.preprocessing import Preprocessing
from ..augment import AugmentConfig
from ..config import TrainConfig
from ..data import Batch, BatchMaker, change_of_units, prefetch
from ..distill import distill_loss
from ..errors import ConfigError, TrainingError
from ..journal import Progress
from ..kernels import fast_cpu_kernels
from ..losses import class_weights, task_loss, thinned
from ..sandwich import Pass, draw_passes
from ..sources import SampleSource, class_frequencies
from ..weights import WeightAverage, build_optimizer
from .kinds import LIKE
from .learning import own_parts

__all__ = ["PackConfig", "PackTrainer"]

_SANDWICH = TrainConfig()  # which passes a step has: as in the training of whole models
_LOSS_STRIDE = 2


@dataclass(frozen=True)
class PackConfig:
    """Everything that decides the outcome, beside the samples.

    Args:
        batch: pictures a step at the bundle's size; twice as many at about half of it.
        coarse: share of the steps at about half the size (ViTs; a Swin has one size).
    """

    steps: int = 400
    batch: int = 12
    coarse: float = 0.5
    lr: float = 1e-3
    warmup_steps: int = 30
    weight_decay: float = 0.02
    grad_clip: float = 1.0
    ema_decay: float = 0.99
    distill_weight: float = 0.5
    precision: str = "bf16"
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not 0 <= self.coarse <= 1 or self.lr <= 0:
            raise ConfigError(
                f"steps and batch must be at least 1, coarse from 0 to 1, lr above 0, got "
                f"{self.steps}, {self.batch}, {self.coarse:g} and {self.lr:g}"
            )
        if self.precision not in ("bf16", "fp32"):
            raise ConfigError(f"precision must be 'bf16' or 'fp32', got '{self.precision}'")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a pack's provenance."""
        return asdict(self)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, at most a quarter of the steps, then a cosine down to a hundredth."""
        warmup = min(self.warmup_steps, self.steps // 4)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class PackTrainer:
    """Trains the parts of `head`'s task in a network of `with_task`; nothing else in it changes.

    Args:
        source: samples whose labels are called as `LIKE` says.
        preprocessing: of the bundle, in whose terms the network takes pictures.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        head: HeadConfig,
        source: SampleSource,
        preprocessing: Preprocessing,
        config: PackConfig,
    ) -> None:
        self.model, self.head, self.config = model, head, config
        self.label = LIKE[head.kind]
        self.maker = BatchMaker(source, (self.label,), seed=config.seed, augment=config.augment)
        self.weights: dict[str, Tensor] = {}
        if head.kind == "classes":
            self.weights[self.label] = class_weights(class_frequencies(source, self.label, head.channels))
        self._parts = own_parts(model, head.name)
        self._optimizer = build_optimizer(self._parts, config.lr, config.weight_decay, (0.9, 0.98))
        self._average = WeightAverage(self._parts, config.ema_decay)
        self._scale, self._shift = change_of_units(preprocessing)
        self._seen = 0

    def run(self, progress: bool = False) -> list[float]:
        """Train; the network's task then has its averaged weights. Returns the loss of the widest pass, step by step.

        Raises:
            TrainingError: a loss is not finite.
        """
        losses: list[float] = []
        torch.manual_seed(self.config.seed)
        with Progress(progress, 0, self.config.steps) as bar:
            for model, steps, batch in self._stages():
                for loss in self._run_stage(model, steps, batch):
                    losses.append(loss)
                    bar.update(len(losses), f"{model.config.image_hw[0]}px loss {loss:.3f}")
        with torch.no_grad():
            for name, parameter in self._parts.named_parameters():
                parameter.copy_(self._average.values[name])
        return losses

    def _stages(self) -> Iterator[tuple[MultiTaskModel, range, int]]:
        """Network, steps and batch of each stage: about half the size first, as most can be learnt there for a third
        of the price."""
        config, whole = self.model.config, round(self.config.steps * self.config.coarse)
        coarse_hw = tuple(config.patch * (side // (2 * config.patch) + 1) for side in config.image_hw)
        if not isinstance(config, ModelConfig) or coarse_hw == config.image_hw:
            whole = 0
        if whole:
            small = self.model.resized((coarse_hw[0], coarse_hw[1]))
            _share_parts_(small, self.model, self.head.name)
            yield small, range(whole), 2 * self.config.batch
        yield self.model, range(whole, self.config.steps), self.config.batch

    def _run_stage(self, model: MultiTaskModel, steps: range, rows: int) -> Iterator[float]:
        seen = self._seen

        def make(step: int) -> Batch:
            return self.maker(step, seen + (step - steps.start) * rows, rows, model.config.image_hw)

        with closing(prefetch(make, steps, 2)) as batches:
            for step, batch in zip(steps, batches, strict=True):
                yield self._step(model, batch, step)
                self._seen += rows

    def _step(self, model: MultiTaskModel, batch: Batch, step: int) -> float:
        rng = np.random.default_rng([self.config.seed, 4, step])
        passes = draw_passes(rng, model.config.widths, model.config.top_k if model.config.moe_blocks else 0, _SANDWICH)
        place = tuple(int(offset) for offset in rng.integers(_LOSS_STRIDE, size=2))
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate(step)
        self._optimizer.zero_grad(set_to_none=True)
        teacher: Tensor | None = None
        first = math.nan
        for number, chosen in enumerate(passes):
            loss, raw = self._pass_loss(model, batch, chosen, teacher, place)
            (loss / len(passes)).backward()
            if number == 0:
                first, teacher = float(loss.detach()), raw
        norm = torch.nn.utils.clip_grad_norm_(self._parts.parameters(), self.config.grad_clip)
        if not math.isfinite(first) or not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"step {step}: the loss or its gradient is not finite ({first:.3g}, {float(norm):.3g}); "
                "try a lower lr, or precision fp32"
            )
        self._optimizer.step()
        self._average.update(self._parts)
        return first

    def _pass_loss(
        self, model: MultiTaskModel, batch: Batch, chosen: Pass, teacher: Tensor | None, place: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Loss of one pass, with a gradient, and what it can teach the others."""
        image, index = batch.image_I3HW * self._scale + self._shift, batch.image_index_B
        most = model.config.top_k if chosen.top_k is None else chosen.top_k
        top_k = torch.full_like(index, most) if model.config.moe_blocks else None
        with fast_cpu_kernels(), torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16"):
            features = model.encode(image, index, [self.head.name] * len(index), top_k, width=chosen.width)
            raw = model.decode(self.head.name, features, index, index, chosen.decoder_width)
        target = batch.targets[self.label]
        thin_raw, thin_target = thinned(self.label, raw, target, _LOSS_STRIDE, place)
        if self.head.kind == "classes":  # the dearest loss; those of the others look at neighbouring pixels
            raw, target = thin_raw, thin_target
        loss = task_loss(self.label, raw, target, self.weights)
        if teacher is not None:
            share = self.config.distill_weight
            loss = (1 - share) * loss + share * distill_loss(self.label, thin_raw, teacher, thin_target)
        return loss, thin_raw.detach()


def _share_parts_(small: MultiTaskModel, model: MultiTaskModel, task: str) -> None:
    """Let the network of another size learn with the very parameters of `model`."""
    theirs: Mapping[str, Any] = dict(own_parts(model, task).named_modules())
    for name, module in own_parts(small, task).named_modules():
        module._parameters.update(theirs[name]._parameters)
