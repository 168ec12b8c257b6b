"""Expert paths: which experts each task visits on calibration images, and routers that know no others.

Router mass of an expert is the weight with which tokens visit it. The rest of the softmax is left out: it is nearly
flat over experts that no token reaches, and costs nothing. A task keeps, in every MoE block, the smallest set of
experts that covers the share asked for; the biases of the others become -inf, so that no token of that task can reach
them: softmax gives them 0, and the ranking by logit puts them last.

Axes: I images, B rows (an image with a task), N tokens, L MoE blocks, E experts, K ranks, S settings (an input size
with an encoder width).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models import MultiTaskModel
from ..models.moe import Routing
from ..runtime.bundles.encoder_spec import BlockExperts, ExpertPaths
from ..runtime.bundles.preprocessing import Preprocessing
from ..runtime.imaging.preprocess import preprocess
from .errors import ExportError
from .report import Progress, no_progress

_IMAGES_PER_CALL = 4  # a row per task each: 24 rows of six tasks
_SLACK = 1e-9  # of a sum of shares
#: Of a task's router biases without the -inf, in the weights file.
OPEN_BIAS = "routers.{task}.open_bias.{level}"


@dataclass(frozen=True)
class Calibration:
    """Pictures to watch the routers on: uint8 RGB [h, w, 3] of any size, and where they come from."""

    images: Sequence[np.ndarray]
    source: str


@dataclass(frozen=True)
class ExpertUse:
    """What one task's routers did in every setting.

    Args:
        mass_SLE: share of the visits' router weight, 1 in total over the experts.
        probability_SLE: mean softmax, 1 in total over the experts.
    """

    mass_SLE: np.ndarray
    probability_SLE: np.ndarray


def find_expert_paths(
    model: MultiTaskModel,
    calibration: Calibration | None,
    coverage: float,
    preprocessing: Preprocessing,
    *,
    sizes: Sequence[tuple[int, int]],
    widths: Sequence[float],
    progress: Progress = no_progress,
) -> dict[str, ExpertPaths]:
    """Every task's expert paths: the experts kept in each MoE block, and what was measured of all of them.

    Without calibration there are none, and every task can reach every expert.

    Args:
        coverage: share of the router mass that is kept in every block, size and width, in (0, 1].
        sizes, widths: those of the encoder graphs; one set of experts must do for them all, as a task has one router.

    Raises:
        ExportError: a model without experts, a coverage outside (0, 1], or nothing to measure it on.
    """
    if calibration is None and coverage == 1.0:
        return {}
    if not len(model.routers):
        raise ExportError("this model has no experts: expert coverage and calibration are for mixtures of experts")
    if not 0 < coverage <= 1:
        raise ExportError(f"expert coverage must lie above 0 and at most at 1, got {coverage:g}")
    if calibration is None or not len(calibration.images):
        raise ExportError("expert coverage is measured on calibration images, got none")
    used = watch_routers(model, calibration.images, preprocessing, sizes=sizes, widths=widths, progress=progress)
    paths = {}
    for task, use in used.items():
        levels = range(use.mass_SLE.shape[1])
        blocks = tuple(
            choose_experts(use.mass_SLE[:, level], use.probability_SLE[:, level], coverage, model.config.top_k)
            for level in levels
        )
        left_out = any(len(block.kept) < len(block.mass) for block in blocks)
        names = tuple(OPEN_BIAS.format(task=task, level=level) for level in levels) if left_out else ()
        paths[task] = ExpertPaths(coverage, blocks, len(calibration.images), calibration.source, names)
    return paths


@torch.no_grad()
def watch_routers(
    model: MultiTaskModel,
    images: Sequence[np.ndarray],
    preprocessing: Preprocessing,
    *,
    sizes: Sequence[tuple[int, int]],
    widths: Sequence[float],
    progress: Progress = no_progress,
) -> dict[str, ExpertUse]:
    """Run every task on every image in every setting, and add up where the tokens went."""
    tasks, settings = model.config.task_names, [(size, width) for size in sizes for width in widths]
    sized = {size: model if size == model.config.image_hw else model.resized(size) for size in sizes}
    shape = (len(settings), 2, len(tasks), len(model.config.moe_blocks), model.config.experts)  # type: ignore[union-attr]
    seen = np.zeros(shape)  # of every setting: mass and probability
    for first in range(0, len(images), _IMAGES_PER_CALL):
        progress("calibrating", first, len(images))
        batch = images[first : first + _IMAGES_PER_CALL]
        for number, (size, width) in enumerate(settings):
            planes = torch.from_numpy(np.stack([preprocess(image, size, preprocessing)[0] for image in batch]))
            seen[number] += _watch_call(sized[size], planes, tasks, width)
    mass_STLE, probability_STLE = (_shares(seen[:, which]) for which in (0, 1))
    return {task: ExpertUse(mass_STLE[:, number], probability_STLE[:, number]) for number, task in enumerate(tasks)}


def _watch_call(model: MultiTaskModel, planes_I3HW: Tensor, tasks: Sequence[str], width: float) -> np.ndarray:
    """Mass and probability of one call, summed over images and tokens: [2, tasks, L, E], float64."""
    images = len(planes_I3HW)
    task_of_row = [task for task in tasks for _ in range(images)]
    top_k_B = torch.full((len(task_of_row),), model.config.top_k)
    index_B = torch.arange(images).repeat(len(tasks))
    routings = model.encode(planes_I3HW, index_B, task_of_row, top_k_B, width=width).routings
    mass_LBE = torch.stack([visited_mass(routing) for routing in routings])
    probability_LBE = torch.stack([routing.probability_BNE.double().sum(dim=1) for routing in routings])
    both = torch.stack([mass_LBE, probability_LBE])
    return both.reshape(2, len(routings), len(tasks), images, -1).sum(dim=3).transpose(1, 2).numpy()


def visited_mass(routing: Routing) -> Tensor:
    """Router weight that each expert got from the tokens that visit it: [B, E], float64."""
    experts = routing.probability_BNE.shape[-1]
    mass_BE = routing.weight_BNK.new_zeros((len(routing.expert_BNK), experts + 1), dtype=torch.float64)
    mass_BE.scatter_add_(1, routing.expert_BNK.flatten(1), routing.weight_BNK.flatten(1).double())
    return mass_BE[:, :experts]  # the last column is "nobody"


def choose_experts(mass_SE: np.ndarray, probability_SE: np.ndarray, coverage: float, at_least: int) -> BlockExperts:
    """The most visited experts: as few as cover `coverage` of the mass in every setting, `at_least` or more, all at 1.

    With one setting no smaller set covers as much. With several, experts are ranked by their mean over the settings.
    """
    mass_E = mass_SE.mean(axis=0)
    ranking = sorted(range(len(mass_E)), key=lambda e: (-mass_E[e], -probability_SE[:, e].mean(), e))
    covered_K = mass_SE[:, ranking].cumsum(axis=1).min(axis=0)
    # An expert that no calibration image needed may be needed by another, so a coverage of 1 leaves none out.
    enough = int(np.searchsorted(covered_K, coverage - _SLACK)) + 1 if coverage < 1 else len(ranking)
    kept = sorted(ranking[: max(enough, at_least)])
    return BlockExperts(
        kept=tuple(kept),
        mass=tuple(_rounded(share) for share in mass_E),
        covered=_rounded(mass_SE[:, kept].sum(axis=1).min()),
        probability=_rounded(probability_SE[:, kept].sum(axis=1).min()),
    )


def restrict_routers(model: MultiTaskModel, paths: dict[str, ExpertPaths]) -> MultiTaskModel:
    """A copy of the model whose routers know only the experts kept: all other biases are -inf."""
    clone = copy.deepcopy(model)
    with torch.no_grad():
        for task, path in paths.items():
            biases: Sequence[Tensor] = clone.routers[task].bias  # type: ignore[union-attr, assignment]
            for bias_E, block in zip(biases, path.blocks, strict=True):
                left_out = torch.ones_like(bias_E, dtype=torch.bool)
                left_out[list(block.kept)] = False
                bias_E.masked_fill_(left_out, -torch.inf)
    return clone


def open_bias_tensors(model: MultiTaskModel, paths: dict[str, ExpertPaths]) -> dict[str, Tensor]:
    """The unrestricted model's biases [E] by the names that `paths` gives them: what the cost is measured against."""
    tensors = {}
    for task, path in paths.items():
        biases: Sequence[Tensor] = model.routers[task].bias  # type: ignore[union-attr, assignment]
        tensors.update({name: bias.detach().float().clone() for name, bias in zip(path.open_biases, biases)})
    return tensors


def _shares(values: np.ndarray) -> np.ndarray:
    """Divided by their sum over the experts; equal shares where that is 0 (a floor may leave no visit at all)."""
    totals = values.sum(axis=-1, keepdims=True)
    return np.where(totals > 0, values / np.where(totals > 0, totals, 1.0), 1.0 / values.shape[-1])


def _rounded(share: float) -> float:
    return round(min(max(float(share), 0.0), 1.0), 6)
