"""The losses of one step as a function of the weights alone: its pictures, passes and pixels are fixed.

Axes: I images, B rows (one task each), R rows of one task, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from ..models import ModelOutput, MultiTaskModel
from ..models.recompute import recomputed_blocks
from .config import TrainConfig
from .data import Batch
from .devices import device_type, gpu_numbers
from .distill import distill_loss
from .kernels import fast_cpu_kernels
from .losses import task_loss, thinned
from .methods import ci_kd, rep_mtl
from .methods.uncertainty import UncertaintyWeights
from .sandwich import Pass
from .tasks import TASK_KINDS

__all__ = ["PassLosses", "StepLoss", "Teacher", "rows_of"]

NEAREST_M = 1e-2
"""Metres below this, which no depth camera sees and no logarithm should meet, count as this."""


@dataclass(frozen=True)
class Teacher:
    """What the widest pass says: raw outputs by task, and the encoder's features; no gradients."""

    raw: Mapping[str, Tensor] = field(default_factory=dict)
    features: Sequence[Tensor] = ()


@dataclass(frozen=True)
class PassLosses:
    """One pass: each task's weighted loss and what does not belong to one task (both with a gradient), what it can
    teach, and its losses against the ground truth by task, detached."""

    terms: dict[str, Tensor]
    extra: Tensor
    teacher: Teacher
    truth: dict[str, Tensor]
    balance: Tensor

    def total(self) -> Tensor:
        """Everything together."""
        loss = self.extra
        for term in self.terms.values():
            loss = loss + term
        return loss


class StepLoss:
    """The losses of one step at the model's present weights."""

    def __init__(
        self,
        model: MultiTaskModel,
        config: TrainConfig,
        batch: Batch,
        passes: Sequence[Pass],
        place: tuple[int, ...],
        class_weights: Mapping[str, Tensor],
        uncertainty: UncertaintyWeights | None = None,
        original: MultiTaskModel | None = None,
    ) -> None:
        """`original` is a network that teaches every pass, the widest too, in the place of the widest."""
        self.model, self.config, self.batch, self.passes, self.place = model, config, batch, passes, place
        self.class_weights, self.uncertainty, self.original = class_weights, uncertainty, original

    @torch.no_grad()
    def original_teacher(self) -> Teacher | None:
        """What the original says at full width; nothing where there is none."""
        if self.original is None:
            return None
        raws, targets = self._answers(self.original, self.batch, Pass(1.0, None, 1.0))[1:]
        thin = {
            task: thinned(task, raws[task], target, self.config.loss_stride, self.place)[0]
            for task, target in targets.items()
        }
        return Teacher(thin)

    def _answers(
        self, model: MultiTaskModel, batch: Batch, chosen: Pass
    ) -> tuple[ModelOutput, dict[str, Tensor], dict[str, Tensor]]:
        """A network's output on a batch, and its raw values and the targets by task."""
        config = self.config
        fast = partial(fast_cpu_kernels, config.device == "cpu")
        recomputed = recomputed_blocks(model.encoder, fast) if config.checkpointing else nullcontext()
        bf16 = torch.autocast(device_type(config.device), torch.bfloat16, enabled=config.precision == "bf16")
        with fast(), recomputed, bf16:
            output = model(
                batch.image_I3HW,
                batch.task_of_row,
                width=chosen.width,
                top_k=chosen.top_k,
                decoder_width=chosen.decoder_width,
                image_index_B=batch.image_index_B,
            )
            raws, targets = _with_image_labels(model, output, batch, chosen)
        return output, {task: _in_logs(model, task, raw) for task, raw in raws.items()}, targets

    def of_pass(self, chosen: Pass, teacher: Teacher | None, rows: Batch | None = None) -> PassLosses:
        """Losses of one pass; without a teacher it is the widest one, and learns from the ground truth alone.

        With some `rows` of the batch only, what does not belong to one task is left out.
        """
        config, batch = self.config, rows or self.batch
        output, raws, targets = self._answers(self.model, batch, chosen)
        terms, own, truth, taught = {}, {}, {}, {}
        share = 0.0 if teacher is None else config.distill_weight
        for task, target in targets.items():
            raw = raws[task]
            thin_raw, thin_target = thinned(task, raw, target, config.loss_stride, self.place)
            if TASK_KINDS[task] == "classes":  # the dearest loss; those of the others look at neighbouring pixels
                raw, target = thin_raw, thin_target
            if self.original is not None and teacher is not None and share == 1:  # there may be no ground truth at all
                own[task] = mixed = distill_loss(task, thin_raw, teacher.raw[task], thin_target)
            else:
                own[task] = task_loss(task, raw, target, self.class_weights)
                mixed = (1 - share) * own[task]
                if teacher is not None and share:
                    mixed = mixed + share * distill_loss(task, thin_raw, teacher.raw[task], thin_target)
            truth[task] = own[task].detach()
            terms[task] = self._weighted(task, mixed)
            taught[task] = thin_raw.detach()
        extra = self._extra(output, batch, own, teacher) if rows is None else output.balance_loss.new_zeros(())
        return PassLosses(terms, extra, Teacher(taught, self._features(output)), truth, output.balance_loss.detach())

    def of_task(self, task: str, seed: int) -> Tensor:
        """A task's loss, the mean over all passes, from the rows that it needs; calls with one seed draw one noise."""
        rows = rows_of(self.batch, task)
        teacher: Teacher | None = None
        losses = []
        with torch.random.fork_rng(gpu_numbers(self.config.device)):
            torch.manual_seed(seed)
            for chosen in self.passes:
                found = self.of_pass(chosen, teacher, rows)
                teacher = teacher or found.teacher
                losses.append(found.terms[task])
        return torch.stack(losses).mean()

    def _weighted(self, task: str, loss: Tensor) -> Tensor:
        weighted = self.config.loss_weights[task] * loss
        return weighted if self.uncertainty is None else self.uncertainty(task, weighted)

    def _features(self, output: ModelOutput) -> list[Tensor]:
        if not self.config.methods.ci_kd:
            return []
        return [part.detach() for part in ci_kd.representation(output.features)]

    def _extra(
        self, output: ModelOutput, batch: Batch, losses: Mapping[str, Tensor], teacher: Teacher | None
    ) -> Tensor:
        """Balance of the experts; in narrow passes the features' distance, in the widest the saliencies of tasks."""
        methods = self.config.methods
        extra = output.balance_loss.new_zeros((), dtype=torch.float32)
        if self.config.balance_weight:
            extra = self.config.balance_weight * output.balance_loss.float()
        if methods.ci_kd and teacher is not None:
            mine = ci_kd.representation(output.features)
            extra = extra + methods.ci_kd * ci_kd.invariance_loss(mine, teacher.features)
        if methods.rep_mtl and teacher is None:
            extra = extra + self._rep_mtl(output, batch, losses)
        return extra

    def _rep_mtl(self, output: ModelOutput, batch: Batch, losses: Mapping[str, Tensor]) -> Tensor:
        methods = self.config.methods
        saliency = rep_mtl.saliencies(losses, output.tokens_BND, output.rows)
        sorted_ITPC = rep_mtl.by_image(saliency, batch.image_index_B)
        if sorted_ITPC is None:
            return output.balance_loss.new_zeros(())
        loss = methods.rep_tsr * rep_mtl.entropy_loss(sorted_ITPC)
        return loss + methods.rep_csa * rep_mtl.alignment_loss(sorted_ITPC, methods.rep_temperature)


def _with_image_labels(
    model: MultiTaskModel, output: ModelOutput, batch: Batch, chosen: Pass
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Raw outputs and targets by task; image-level heads read the tokens of every row, not only of their own.

    An image has one label where a map has thousands, and the encoder has run for every row anyway.
    """
    raws, targets = dict(output.raw), dict(batch.targets)
    for task, label_I in batch.image_labels.items():
        raws[task] = model.heads[task](output.tokens_BND, None, chosen.decoder_width)
        targets[task] = label_I[batch.image_index_B]
    return raws, targets


def _in_logs(model: MultiTaskModel, task: str, raw: Tensor) -> Tensor:
    """Depth as the losses take it, in logarithms: published decoders give metres as they are."""
    head = model.config.task(task)
    return raw if head.kind != "depth" or head.log_depth else raw.float().clamp(min=NEAREST_M).log()


def rows_of(batch: Batch, task: str) -> Batch:
    """The rows that a task's loss needs, with its targets alone: its own, or all of them if its labels are images'."""
    if task in batch.image_labels:
        return replace(batch, targets={}, image_labels={task: batch.image_labels[task]})
    rows = [row for row, name in enumerate(batch.task_of_row) if name == task]
    images, index_R = torch.unique(batch.image_index_B[rows], return_inverse=True)
    samples = [batch.samples[image] for image in images.tolist()]
    return Batch(batch.image_I3HW[images], index_R, [task] * len(rows), {task: batch.targets[task]}, samples)
