"""The whole network: one encoder, a head per task, and what makes rows of different tasks differ: routers, adapters.

Axes: I images, B rows (an image with one task), R rows of one task, L MoE blocks, D embedding, E experts, P numbers of
a task's adapters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .adapters import flat_adapters, task_adapters
from .config import ModelConfig
from .encoder import Encoder, Features, resample_position
from .errors import ConfigError
from .families import AnyConfig
from .heads import build_head, run_head
from .layers import linear_init
from .moe import balance_loss
from .swin import SwinEncoder, same_windows
from .swin_config import SwinConfig
from .taskexpert import DecoderExperts

#: How the names of what all tasks use begin. What begins with heads, routers or adapters is a task's own.
SHARED_PARTS = ("encoder.", "decoder_experts.")


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


def run_encoder(
    encoder: nn.Module,
    image_I3HW: Tensor,
    image_index_B: Tensor,
    top_k_B: Tensor | None,
    rows: Mapping[str, Tensor],
    *,
    width: float = 1.0,
    noise_std: float = 0.0,
) -> Features:
    """Run an encoder of either family on what its rows bring along (`MultiTaskModel.row_inputs`)."""
    adapter_BP = rows.get("adapter")
    if isinstance(encoder, SwinEncoder):
        return encoder(image_I3HW, image_index_B, adapter_BP, width=width)
    routers = rows.get("router"), rows.get("router_bias")
    return encoder(image_I3HW, image_index_B, top_k_B, *routers, adapter_BP, width=width, noise_std=noise_std)


class MultiTaskModel(nn.Module):
    """A slimmable multi-task model; see `ModelConfig` and `SwinConfig` for what it is made of."""

    # Of either family (AnyConfig; Encoder or SwinEncoder). Whoever builds one knows which, a type checker does not.
    config: Any
    encoder: Any
    decoder_experts: Any  # DecoderExperts, or None where no decoder reads them

    def __init__(self, config: AnyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SwinEncoder(config) if isinstance(config, SwinConfig) else Encoder(config)
        routed = config.task_names if isinstance(config, ModelConfig) and config.moe_blocks else ()
        self.routers = nn.ModuleDict({task: Router(config) for task in routed})  # type: ignore[arg-type]
        sites = self.encoder.sites()
        self.adapters = nn.ModuleDict({task: task_adapters(sites) for task in config.task_names if sites})
        self.heads = nn.ModuleDict({task.name: build_head(config, task) for task in config.tasks})
        self.decoder_experts = DecoderExperts(config) if config.has_decoder_experts else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.patch_embed.weight.device

    def stacked_routers(self, task_of_row: Sequence[str]) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Routers of each row's task, [B, L, D, E] and [B, L, E]; nothing for a dense model."""
        if not self.config.moe_blocks:
            return None, None
        tasks = sorted(set(task_of_row))
        row_B = torch.tensor([tasks.index(task) for task in task_of_row], device=self.device)
        weight = torch.stack([torch.stack(list(self.routers[task].weight)) for task in tasks])  # type: ignore[union-attr]
        bias = torch.stack([torch.stack(list(self.routers[task].bias)) for task in tasks])  # type: ignore[union-attr]
        return weight[row_B], bias[row_B]

    def row_inputs(self, task_of_row: Sequence[str], width: float = 1.0) -> dict[str, Tensor]:
        """What each row's task brings to the encoder, by name: routers `router` [B, L, D, E] and `router_bias`
        [B, L, E], adapters `adapter` [B, P] (P depends on the width); nothing where rows do not differ."""
        inputs: dict[str, Tensor] = {}
        router, bias = self.stacked_routers(task_of_row)
        if router is not None and bias is not None:
            inputs |= {"router": router, "router_bias": bias}
        if sites := self.encoder.sites(width):
            tasks = sorted(set(task_of_row))
            flat = torch.stack([flat_adapters(self.adapters[task], sites) for task in tasks])  # type: ignore[arg-type]
            inputs["adapter"] = flat[torch.tensor([tasks.index(task) for task in task_of_row], device=self.device)]
        return inputs

    def encode(
        self,
        image_I3HW: Tensor,
        image_index_B: Tensor,
        task_of_row: Sequence[str],
        top_k_B: Tensor | None = None,
        *,
        width: float = 1.0,
        noise_std: float = 0.0,
    ) -> Features:
        """Features of every row. The arguments are those of `forward`, checked."""
        rows = self.row_inputs(task_of_row, width)
        return run_encoder(self.encoder, image_I3HW, image_index_B, top_k_B, rows, width=width, noise_std=noise_std)

    def decode(self, task: str, features: Features, row_R: Tensor, image_R: Tensor, width: float = 1.0) -> Tensor:
        """Raw values of some rows' task.

        Args:
            row_R: The rows, int64.
            image_R: The image of each of them, int64.
        """
        detail = features.detail_ICHW
        detail = detail[image_R] if detail is not None else None
        levels = tuple(level[row_R] for level in features.levels)
        return self.raw(task, features.tokens_BND[row_R], detail, width, levels)

    def raw(
        self, task: str, tokens_RND: Tensor, detail_RCHW: Tensor | None, width: float, levels: tuple[Tensor, ...]
    ) -> Tensor:
        """Raw values that a task's decoder makes of what it reads."""
        return run_head(self.heads[task], self.decoder_experts, tokens_RND, detail_RCHW, width, levels)

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
        noise_std = 0.0
        if isinstance(self.config, ModelConfig) and self.training:
            noise_std = self.config.router_noise / self.config.experts
        features = self.encode(image_I3HW, index_B, task_of_row, top_k_B, width=width, noise_std=noise_std)
        raw, rows = {}, {}
        for task in dict.fromkeys(task_of_row):
            rows[task] = torch.tensor([row for row, name in enumerate(task_of_row) if name == task], device=device)
            head_width = width if decoder_width is None else decoder_width
            raw[task] = self.decode(task, features, rows[task], index_B[rows[task]], head_width)
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
        if not self.training or not features.routings or isinstance(self.config, SwinConfig):
            return features.tokens_BND.new_zeros(())
        names = self.config.task_names
        group = [names.index(task) if self.config.balance == "per_task" else 0 for task in task_of_row]
        group_B = torch.tensor(group, device=features.tokens_BND.device)
        return torch.stack([balance_loss(routing, group_B) for routing in features.routings]).mean()

    def resized(self, image_hw: tuple[int, int]) -> "MultiTaskModel":
        """A copy for another image size: position embedding resampled, every other weight the same.

        Raises:
            ConfigError: the size is no multiple of the patch, or changes the windows of a Swin.
        """
        with torch.device("meta"):  # no weights are drawn only to be overwritten, and the random state stays as it is
            clone = MultiTaskModel(replace(self.config, image_hw=image_hw))
        state = {name: value.clone() for name, value in self.state_dict().items()}
        if isinstance(self.config, SwinConfig):
            if not same_windows(self.config, clone.config):  # type: ignore[arg-type]
                raise ConfigError(
                    f"images of {image_hw} would need windows of another size than {self.config.image_hw}; "
                    "take a size whose smallest grid is not below the window"
                )
        else:
            old, new = self.config.grid_hw, clone.config.grid_hw
            state["encoder.position"] = resample_position(state["encoder.position"], old, new)
        clone.load_state_dict(state, assign=True)
        for mine, theirs in zip(self.parameters(), clone.parameters(), strict=True):
            theirs.requires_grad_(mine.requires_grad)
        return clone.to(self.device).train(self.training)
