"""Image classifiers: ViTs as timm names them, and HydraViT (ds-kiel/HydraViT; Haberer et al. 2024) at its full width.

HydraViT nests its sub-networks in every dimension, the embedding included; the widths here keep the embedding, so its
narrow sub-networks are none of ours. Checked against timm 1.0.31 (tests/fixtures/timm).
"""

from pathlib import Path

import torch
from torch import Tensor

from ...models import HeadConfig, ModelConfig
from ..errors import ConvertError
from .reader import read_file, tensors_of
from .source import (
    ConvertOptions,
    Parts,
    Result,
    count_numbered,
    fill,
    need,
    ratio_of,
    shape_of,
    split_grid,
    state_dict_of,
    without_prefix,
)
from .table import Rule
from .vit_names import block_rules

_BLOCK, _OURS = "blocks.{block}", "encoder.blocks.{block}"

RULES: tuple[Rule, ...] = (
    Rule("cls_token", "encoder.class_token"),
    Rule("pos_embed", "encoder.position"),
    Rule("patch_embed.proj.{part}", "encoder.patch_embed.{part}"),
    *block_rules(_BLOCK, _OURS),
    Rule("norm.{part}", "heads.{task}.norm.{part}"),
    Rule("fc_norm.{part}", "heads.{task}.norm.{part}", None, "the mean of the patches is normalised, not the tokens"),
    Rule("head.{part}", "heads.{task}.out.{part}"),
)

#: Attention heads of the usual sizes, by embedding size and depth.
HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 16}
HYDRAVIT_HEAD_DIM = 64
TASK = "label"


def load(source: Path, options: ConvertOptions) -> Result:
    """Read a ViT classifier as timm writes it.

    Raises:
        ConvertError: something is missing, does not fit, or has to be said.
        UnsafeFileError: the file is damaged or would run code.
    """
    return _load(source, options, head_dim=None)


def load_hydravit(source: Path, options: ConvertOptions) -> Result:
    """Read a HydraViT at its full width: every head has 64 channels.

    Raises:
        ConvertError, UnsafeFileError: as in `load`.
    """
    return _load(source, options, head_dim=HYDRAVIT_HEAD_DIM)


def classifier_weights(source: Path, options: ConvertOptions) -> dict[str, Tensor]:
    """The weights of a file that timm's trainer wrote, or of a bare state dict; averaged ones on request.

    Raises:
        ConvertError: there are none, or no averaged ones.
    """
    content = read_file(source)
    names = ("state_dict_ema", "model_ema") if options.ema else ("state_dict", "model")
    if options.ema and not any(name in content for name in names):
        raise ConvertError(f"{source} has no averaged weights (state_dict_ema); leave --ema out")
    return without_prefix(tensors_of(source, state_dict_of(content, *names, source=source)), "module.")


def task_name(options: ConvertOptions, source: Path) -> str:
    """What the user calls the only task.

    Raises:
        ConvertError: more than one name was given.
    """
    if len(options.tasks) > 1:
        raise ConvertError(f"{source} is a classifier with one task: give --tasks one name")
    return options.tasks[0] if options.tasks else TASK


def _load(source: Path, options: ConvertOptions, head_dim: int | None) -> Result:
    tensors = classifier_weights(source, options)
    task = task_name(options, source)
    dim, _, patch, _ = shape_of(tensors, "patch_embed.proj.weight", 4, source)
    depth = count_numbered(tensors, "blocks.")
    hidden = shape_of(tensors, "blocks.0.mlp.fc1.weight", 2, source)[0]
    patches = shape_of(tensors, "pos_embed", 3, source)[1] - 1
    if "head.weight" not in tensors:
        raise ConvertError(f"{source} has no classifier ('head.weight'): a backbone alone answers no task")
    if ("norm.weight" in tensors) == ("fc_norm.weight" in tensors):
        raise ConvertError(f"{source} must have one last norm, 'norm' or 'fc_norm'")
    usual = dim // head_dim if head_dim else HEADS.get((dim, depth))
    heads = options.heads or usual
    assumed = [] if options.heads else [f"{heads} attention heads, as usual for {depth} x {dim} (else: --heads)"]
    config = ModelConfig(
        dim=dim,
        depth=depth,
        heads=need(heads, "--heads", "the number of attention heads is in no tensor", source),
        tasks=(
            HeadConfig(
                task,
                "image_classes",
                shape_of(tensors, "head.weight", 2, source)[0],
                decoder="linear",
                pool="token" if "norm.weight" in tensors else "mean_then_norm",
            ),
        ),
        image_hw=split_grid(patches, options.image_hw, patch, source),
        patch=patch,
        mlp_ratio=ratio_of(hidden, dim),
        embed_norm=False,
        detail_channels=0,
        widths=(1.0,),
    )
    absent: dict[str, Tensor] = {}
    if not any(name.endswith("attn.qkv.bias") for name in tensors):
        absent = {f"encoder.blocks.{block}.attn.qkv_bias": torch.zeros(3 * dim) for block in range(depth)}

    def more(parts: Parts) -> Parts:
        return {**parts, "task": task}

    model, found = fill(config, RULES, tensors, source=source, more=more, absent=absent)
    return Result(model, found, len(tensors), assumed)
