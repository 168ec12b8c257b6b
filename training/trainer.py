"""The training loop: one task per row, several configurations per step, the widest teaching the others.

Axes: I images, B rows (one task each), H height, W width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models import MultiTaskModel, freeze_pretrained_, save_checkpoint
from . import distributed
from .config import Stage, TrainConfig
from .data import Batch, BatchMaker, prefetch
from .descent import per_task_descent, plain_descent
from .describe import checkpoint_metadata
from .devices import check_device
from .divergence import diverged
from .epoch_pictures import EpochPictures
from .journal import Journal, Meter, Progress, plot_losses
from .losses import class_weights
from .methods.aggregate import aggregator
from .methods.uncertainty import UncertaintyWeights
from .network import check_methods, fresh_network
from .sandwich import draw_passes
from .schedule import learning_rate, stage_at
from .sources import SampleSource, class_frequencies
from .start import Origin, start_from
from .state import check_same_training, load_state, random_state, restore_random_state, save_state
from .step_loss import StepLoss
from .tasks import train_tasks
from .weights import WeightAverage, build_optimizer, carry_over

__all__ = ["Trainer"]


class Trainer:
    """One training: its model, optimizer and place in the schedule. `out` receives all its files."""

    def __init__(
        self,
        config: TrainConfig,
        source: SampleSource,
        classes: Mapping[str, int],
        out: Path,
        *,
        progress: bool = False,
    ) -> None:
        check_device(config.device)
        distributed.join(config.device)  # first: it says which GPU is this process's
        self.config, self.source, self.out = config, source, out
        self.tasks = train_tasks(config.tasks, dict(classes))
        aggregator(config.methods.aggregate, seed=0)  # refused now, not at the first step
        per_image = config.data.rows_per_image
        self.maker = BatchMaker(
            source, config.tasks, seed=config.seed, augment=config.augment, rows_per_image=per_image
        )
        self.class_names: Mapping[str, Sequence[str]] = getattr(source, "class_names", {})
        shown = progress and distributed.rank() == 0
        self.class_weights = {
            task.name: class_weights(class_frequencies(source, task.name, task.channels, progress=shown)).to(
                config.device
            )
            for task in self.tasks
            if task.kind == "classes"
        }
        self.step, self.seen, self.minutes, self.stopping = 0, 0, 0.0, False
        distributed.check_batches([stage.batch for stage in config.stages], per_image)
        torch.manual_seed(config.seed)
        self.origin: Origin | None = None
        self.original: MultiTaskModel | None = None
        self.pictures: EpochPictures | None = None
        model = self.build_network()
        check_methods(config, model)
        self._adopt(model.to(config.device).train())

    def build_network(self) -> MultiTaskModel:
        """The network before its first step; `resume` puts other weights into it. A network that teaches every pass
        is put into `original`."""
        config = self.config
        model = fresh_network(config, self.tasks)
        if config.start and not self.state_file.exists():  # else `resume` brings the weights, and the origin
            self.origin = start_from(model, Path(config.start))
        return freeze_pretrained_(model) if config.adapters_only else model

    def _adopt(self, model: MultiTaskModel) -> None:
        self.model = model
        self.average = WeightAverage(model, self.config.ema_decay)
        self.optimizer = build_optimizer(model, self.config.lr, self.config.weight_decay, self.config.betas)
        learnt = self.config.methods.weighting == "uncertainty"
        self.uncertainty = UncertaintyWeights(self.config.tasks, self.config.device) if learnt else None

    @property
    def state_file(self) -> Path:
        """Where the state for resuming lies."""
        return self.out / "state.pt"

    @property
    def checkpoint_file(self) -> Path:
        """Where the averaged weights lie."""
        return self.out / "model.safetensors"

    def save(self) -> None:
        """Write the state for resuming, and the averaged weights as a checkpoint; the first process does so for all."""
        if distributed.rank() > 0:
            return
        state = {
            "config": self.config.to_json(),
            "step": self.step,
            "seen": self.seen,
            "minutes": self.minutes,
            "image_hw": list(self.model.config.image_hw),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "average_updates": self.average.updates,
            "origin": None if self.origin is None else asdict(self.origin),
            **random_state(self.config.device),
            "uncertainty": self.uncertainty.state() if self.uncertainty else None,
        }
        save_state(self.state_file, state)
        self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write the averaged weights, and what is to be said about them."""
        metadata = checkpoint_metadata(self.config, self.tasks, self.step, self.minutes, self.origin, self.class_names)
        save_checkpoint(self.checkpoint_file, self.average.applied(self.model), metadata)

    def resume(self) -> None:
        """Take up the training where `save` left it, to the bit.

        Raises:
            ResumeError: the state is damaged, or belongs to other settings.
        """
        state = load_state(self.state_file)
        check_same_training(TrainConfig.from_json(state["config"]), self.config, self.state_file)
        self._adopt(self.model.resized(tuple(state["image_hw"])).train())
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        values = {name: value.to(self.config.device) for name, value in state["average"].items()}
        self.average.values, self.average.updates = values, state["average_updates"]
        self.step, self.seen, self.minutes = state["step"], state["seen"], state["minutes"]
        self.origin = Origin(**state["origin"]) if state.get("origin") else None
        if self.uncertainty:
            self.uncertainty.restore(state["uncertainty"])
        restore_random_state(state)

    @property
    def finished(self) -> bool:
        """True once every step is done."""
        return self.step >= self.config.steps

    def run(self, minutes: float | None = None, progress: bool = True) -> None:
        """Train until the end, or until `minutes` have passed; save in either case.

        Raises:
            DivergedError: a loss or gradient is not finite.
        """
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.out.mkdir(parents=True, exist_ok=True)
        leads = distributed.rank() == 0
        if leads:
            self.config.save(self.out / "config.json")
        log = "log.csv" if leads else f"log-rank{distributed.rank()}.csv"
        journal = Journal(self.out / log, self.config.tasks, self.step)
        self.stopping = False
        if leads and self.config.sample_pictures:
            self.pictures = EpochPictures(self.config, self.source, self.tasks, self.out, self.seen)
        with Progress(progress and leads, self.step, self.config.steps) as bar:
            while not self.finished and not self.stopping:
                self._run_stage(deadline, journal, bar)
        self.save()
        if leads:
            plot_losses(journal.path, self.out / "loss.png")
        distributed.wait_for_all()  # nobody reads the files before the first process has written them

    def _run_stage(self, deadline: float, journal: Journal, bar: Progress) -> None:
        stage, end = stage_at(self.config, self.step)
        if stage.image_hw != self.model.config.image_hw:
            moved = carry_over(self.model, self.average, self.optimizer, stage.image_hw)
            self.model, self.average, self.optimizer = moved
        rows, first, seen = stage.batch // distributed.world_size(), self.step, self.seen
        images = rows // self.config.data.rows_per_image

        def make(step: int) -> Batch:
            share = (step - first) * distributed.world_size() + distributed.rank()
            return self.maker(step, seen + share * images, rows, stage.image_hw)

        meter, late = Meter(), False
        with closing(prefetch(make, range(first, end), self.config.data.queue)) as batches:
            for batch in batches:
                meter.add(self.train_step(batch, stop=late), images * distributed.world_size())
                late = time.monotonic() >= deadline
                # Several processes must stop after the same step: there, the word goes round with the next gradients.
                self.stopping = self.stopping or (late and distributed.world_size() == 1)
                if self.pictures is not None:
                    self.pictures.after_step(self.seen, self.step, self.model, self.average)
                self.minutes += meter.lap_minutes()
                if self.step % self.config.log_every == 0 or self.finished:
                    self._tell(meter, stage, journal, bar)
                    meter = Meter()
                bar.update(self.step)
                if self.stopping:
                    return
                if self.step % self.config.save_every == 0:
                    self.save()

    def _tell(self, meter: Meter, stage: Stage, journal: Journal, bar: Progress) -> None:
        means = meter.means()
        journal.write(
            step=self.step - 1,
            image_hw="x".join(map(str, stage.image_hw)),
            batch=stage.batch,
            lr=learning_rate(self.config, self.step - 1),
            images_per_s=meter.rate(),
            minutes=self.minutes,
            **means,
        )
        losses = " ".join(f"{task} {means[f'{task}_widest']:.3f}" for task in self.config.tasks)
        bar.update(self.step, f"{stage.image_hw[0]}px {meter.rate():.0f} images/s {losses}")

    def train_step(self, batch: Batch, *, stop: bool = False) -> dict[str, Tensor]:
        """Every pass of one step, then one update of the weights; `stop` ends the slice, in all processes, after it.

        Returns:
            Losses by task and pass, the balance loss and the gradient's norm, detached scalars.

        Raises:
            DivergedError: a loss or the gradient is not finite; no weight has changed then.
        """
        config = self.config
        batch = batch.to(config.device)
        widths, experts = self.model.config.widths, self.model.config.moe_blocks
        rng = np.random.default_rng([config.seed, 4, self.step])
        passes = draw_passes(rng, widths, self.model.config.top_k if experts else 0, config)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        learnt = list(self.uncertainty.parameters()) if self.uncertainty else []
        place = tuple(int(offset) for offset in rng.integers(config.loss_stride, size=2))
        step_loss = StepLoss(
            self.model, config, batch, passes, place, self.class_weights, self.uncertainty, self.original
        )
        total, losses = per_task_descent(step_loss, self.step) if config.methods.per_task else plain_descent(step_loss)
        late, total = distributed.average_gradients(
            [*self.model.parameters(), *learnt], torch.tensor(float(stop), device=config.device), total
        )
        self.stopping = bool(late > 0)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        if not bool(torch.isfinite(total + norm)):
            raise diverged(self.out, self.step, batch, passes, losses, norm)
        self.optimizer.step()
        if self.uncertainty:
            self.uncertainty.step(learning_rate(config, self.step))
        self.average.update(self.model)
        self.step += 1
        self.seen += batch.image_I3HW.shape[0] * distributed.world_size()
        return {**losses, "grad_norm": norm}
