"""The whole network: one encoder, a router per task, a head per task.

Axes: I images, B rows (an image with one task), R rows of one task, L MoE blocks, D embedding, E experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .encoder import Encoder, Features, resample_position
from .errors import ConfigError
from .heads import build_head
from .layers import linear_init
from .moe import balance_loss


class Router(nn.Module):
    """One task's gates, one per MoE block: weight [D, E] (logits = token @ weight + bias) and bias [E]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.ParameterList([linear_init(config.dim, config.experts) for _ in config.moe_blocks])
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(config.experts)) for _ in config.moe_blocks])


@dataclass(frozen=True)
class ModelOutput:
    """Raw predictions of every task (rows of that task only), which rows they are, and the MoE balance loss."""

    raw: dict[str, Tensor]
    rows: dict[str, Tensor]
    balance_loss: Tensor
    features: Features

    @property
    def tokens_BND(self) -> Tensor:
        """Tokens of every row after the last block, class token first, not normalised."""
        return self.features.tokens_BND


class MultiTaskModel(nn.Module):
    """A slimmable multi-task model; see `ModelConfig` for what it is made of."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        routed = config.task_names if config.moe_blocks else ()
        self.routers = nn.ModuleDict({task: Router(config) for task in routed})
        self.heads = nn.ModuleDict({task.name: build_head(config, task) for task in config.tasks})

    def stacked_routers(self, task_of_row: Sequence[str]) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Routers of each row's task, [B, L, D, E] and [B, L, E]; nothing for a dense model."""
        if not self.config.moe_blocks:
            return None, None
        tasks = sorted(set(task_of_row))
        row_B = torch.tensor([tasks.index(task) for task in task_of_row], device=self.encoder.position.device)
        weight = torch.stack([torch.stack(list(self.routers[task].weight)) for task in tasks])  # type: ignore[union-attr]
        bias = torch.stack([torch.stack(list(self.routers[task].bias)) for task in tasks])  # type: ignore[union-attr]
        return weight[row_B], bias[row_B]

    def forward(
        self,
        image_I3HW: Tensor,
        task_of_row: Sequence[str],
        *,
        width: float = 1.0,
        top_k: int | Tensor | None = None,
        decoder_width: float | None = None,
        image_index_B: Tensor | None = None,
    ) -> ModelOutput:
        """Predict one task per row.

        Args:
            image_I3HW: Normalised RGB at the configuration's size.
            task_of_row: The task of each row.
            width: Encoder width, in (0, 1].
            top_k: Experts a token visits, 1 to the configuration's top_k, for all rows or one per row; by default
                the configuration's. Dense models ignore it.
            decoder_width: Width of the heads; the encoder's by default.
            image_index_B: Image of each row, int64; row b works on image b by default.

        Raises:
            ConfigError: an unknown task, an image of another size, no row, rows that do not match the images, or a
                width or top_k that the model does not have.
        """
        for task in set(task_of_row):
            self.config.task(task)
        if tuple(image_I3HW.shape[1:]) != (3, *self.config.image_hw):
            raise ConfigError(
                f"image must be [I, 3, {self.config.image_hw}], got {tuple(image_I3HW.shape)}; see resized()"
            )
        device = image_I3HW.device
        index_B = image_index_B if image_index_B is not None else torch.arange(len(image_I3HW), device=device)
        if not task_of_row or index_B.shape != (len(task_of_row),):
            raise ConfigError(
                f"expected one task per row, got {len(task_of_row)} tasks for {len(index_B)} rows; "
                "several tasks of one image need image_index_B"
            )
        top_k_B = self._checked_top_k(top_k, len(task_of_row), device)
        router, bias = self.stacked_routers(task_of_row)
        noise_std = self.config.router_noise / self.config.experts if self.training else 0.0
        features = self.encoder(image_I3HW, index_B, top_k_B, router, bias, width=width, noise_std=noise_std)
        raw, rows = {}, {}
        for task in dict.fromkeys(task_of_row):
            rows[task] = torch.tensor([row for row, name in enumerate(task_of_row) if name == task], device=device)
            detail = features.detail_ICHW
            detail = detail[index_B[rows[task]]] if detail is not None else None
            head_width = width if decoder_width is None else decoder_width
            raw[task] = self.heads[task](features.tokens_BND[rows[task]], detail, head_width)
        return ModelOutput(raw, rows, self._balance(features, task_of_row), features)

    def _checked_top_k(self, top_k: int | Tensor | None, rows: int, device: torch.device) -> Tensor:
        most = self.config.top_k
        top_k_B = torch.as_tensor(most if top_k is None else top_k, device=device)
        if top_k_B.shape not in ((), (rows,)):
            raise ConfigError(f"top_k must be one number or one per row ({rows}), got shape {tuple(top_k_B.shape)}")
        # Costs a wait for the device, but so does every MoE block (it splits by counts).
        if top_k is not None and self.config.moe_blocks and bool(((top_k_B < 1) | (top_k_B > most)).any()):
            raise ConfigError(f"top_k must lie in 1..{most}, got {top_k_B.tolist()}")
        return top_k_B.expand(rows)

    def _balance(self, features: Features, task_of_row: Sequence[str]) -> Tensor:
        if not self.training or not features.routings:
            return features.tokens_BND.new_zeros(())
        names = self.config.task_names
        group = [names.index(task) if self.config.balance == "per_task" else 0 for task in task_of_row]
        group_B = torch.tensor(group, device=features.tokens_BND.device)
        return torch.stack([balance_loss(routing, group_B) for routing in features.routings]).mean()

    def resized(self, image_hw: tuple[int, int]) -> "MultiTaskModel":
        """A copy for another image size: position embedding resampled, every other weight the same.

        Raises:
            ConfigError: the size is no multiple of the patch.
        """
        with torch.device("meta"):  # no weights are drawn only to be overwritten, and the random state stays as it is
            clone = MultiTaskModel(replace(self.config, image_hw=image_hw))
        state = {name: value.clone() for name, value in self.state_dict().items()}
        old, new = self.config.grid_hw, clone.config.grid_hw
        state["encoder.position"] = resample_position(state["encoder.position"], old, new)
        clone.load_state_dict(state, assign=True)
        return clone.train(self.training)
