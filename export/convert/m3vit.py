"""M3ViT (VITA-Group/M3ViT @ d448b6f; Fan et al. 2022): a folder with one file per rank, or a single file.

Checked against the numbers that the upstream code computes (tests/fixtures/m3vit-a). Three ways to route by task:
one gate per task; one gate that also reads a task vector, whose part of the product is a constant bias per task; one
gate for all. All become routers per task here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models import ModelConfig
from ..errors import ConvertError
from .changes import apart, apart_transposed
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
from .tasks import TASKS, head_of
from .vit_names import block_rules

_BLOCK, _OURS = "backbone.blocks.{block}", "encoder.blocks.{block}"
_TRAINING = "only used in training"

RULES: tuple[Rule, ...] = (
    Rule("backbone.cls_token", "encoder.class_token"),
    Rule("backbone.pos_embed", "encoder.position"),
    Rule("backbone.patch_embed.proj.{part}", "encoder.patch_embed.{part}"),
    *block_rules(_BLOCK, _OURS),
    Rule(f"{_BLOCK}.mlp.experts.htoh4.weight", f"{_OURS}.experts.up.{{each}}", apart, "one tensor per expert"),
    Rule(f"{_BLOCK}.mlp.experts.htoh4.bias", f"{_OURS}.experts.up_bias.{{each}}", apart, "one per expert"),
    Rule(
        f"{_BLOCK}.mlp.experts.h4toh.weight",
        f"{_OURS}.experts.down.{{each}}",
        apart_transposed,
        "one tensor per expert, transposed",
    ),
    Rule(f"{_BLOCK}.mlp.experts.h4toh.bias", f"{_OURS}.experts.down_bias.{{each}}", apart, "one per expert"),
    Rule(f"{_BLOCK}.mlp.gate.{{gate}}.w_gate", "routers.{task}.weight.{level}", None, "gates are numbered by task"),
    Rule(f"{_BLOCK}.mlp.gate.{{gate}}.bias", "routers.{task}.bias.{level}", None, "what a task vector adds, or 0"),
    Rule(f"{_BLOCK}.mlp.gate.*w_gate_aux", None, None, _TRAINING),
    Rule(f"{_BLOCK}.mlp.gate.*head.*", None, None, _TRAINING),
    Rule("backbone.gate_task_represent.*", None, None, "became the routers' biases"),
    Rule("decoders.{task}.norm.{part}", "heads.{task}.norm.{part}"),
    Rule("decoders.{task}.conv_4.{part}", "heads.{task}.out.{part}"),
    Rule("decoders.{task}.conv_{number}.{part}", "heads.{task}.convs.{number}.{part}"),
    Rule("decoders.{task}.syncbn_fc_{number}.{part}", "heads.{task}.norms.{number}.{part}"),
    Rule("tam_model{level}.*", None, None, _TRAINING),
)

#: Heads of the published sizes by embedding size; the small one has 12, not DeiT-S's 6.
HEADS = {192: 3, 384: 12, 768: 12}
#: Image sizes of the published settings by number of patches: PASCAL, NYUD, Cityscapes.
IMAGE_SIZES = {1024: (512, 512), 1200: (480, 640), 128: (128, 256)}
PRUNED_BELOW = 0.1


def load(source: Path, options: ConvertOptions) -> Result:
    """Read a checkpoint of M3ViT.

    Raises:
        ConvertError: something is missing, does not fit, or has to be said.
        UnsafeFileError: a file is damaged or would run code.
    """
    return from_tensors(_read(source), options, source)


def from_tensors(given: Mapping[str, Tensor], options: ConvertOptions, source: Path) -> Result:
    """The network of a state dict without `module.`; `source` is what errors call it.

    Raises:
        ConvertError: as in `load`.
    """
    tensors = _name_tasks(given, options, source)
    foreign_tasks = [task for task in TASKS if f"decoders.{task}.norm.weight" in tensors]
    if unknown := sorted({name.split(".")[1] for name in tensors if name.startswith("decoders.")} - TASKS.keys()):
        raise ConvertError(f"{source} has tasks that are not known: {', '.join(unknown)}; known are {', '.join(TASKS)}")
    if not foreign_tasks:
        raise ConvertError(f"{source} has no decoders: a pre-trained backbone alone answers no task")
    config, assumed = _config(tensors, foreign_tasks, options, source)
    own_name = {task: TASKS[task][0] for task in foreign_tasks}
    tensors = _gates_by_task(tensors, config, len(foreign_tasks), source)

    def more(parts: Parts) -> Parts | str:
        parts = dict(parts)
        if "gate" in parts:
            if int(parts["gate"]) >= len(foreign_tasks):
                return "a gate of no task in this file"
            parts["task"] = foreign_tasks[int(parts["gate"])]
            parts["level"] = str(config.moe_blocks.index(int(parts["block"])))
        if "task" in parts:
            parts["task"] = own_name[parts["task"]]
        return parts

    model, found = fill(config, RULES, tensors, source=source, more=more)
    return Result(model, found, len(given), assumed)


def _read(source: Path) -> dict[str, Tensor]:
    """All ranks' tensors, experts joined in the order of the ranks, without prefix."""
    if not source.is_dir():
        return _weights(source)
    files = {int(file.stem): file for file in source.glob("*.pth") if file.stem.isdecimal()}
    if not files or sorted(files) != list(range(len(files))):
        got = ", ".join(f"{rank}.pth" for rank in sorted(files)) or "none of them"
        raise ConvertError(f"{source} must hold 0.pth, 1.pth, ... without a gap, got {got}")
    shards = [_weights(files[rank]) for rank in sorted(files)]
    joined = dict(shards[0])
    for rank, shard in enumerate(shards[1:], start=1):
        if strange := sorted(name for name in shard if ".mlp.experts." not in name or name not in shards[0]):
            raise ConvertError(f"{files[rank]} must hold experts only, got {', '.join(strange[:3])}")
    for name in shards[0] if len(shards) > 1 else ():
        if ".mlp.experts." in name:
            if lacking := [rank for rank, shard in enumerate(shards) if name not in shard]:
                raise ConvertError(f"{source}: rank {lacking[0]} has no '{name}'")
            try:
                joined[name] = torch.cat([shard[name] for shard in shards])
            except RuntimeError as error:
                raise ConvertError(f"{source}: '{name}' differs between ranks: {error}") from None
    return joined


def _weights(path: Path) -> dict[str, Tensor]:
    content = read_file(path)
    return without_prefix(tensors_of(path, state_dict_of(content, "state_dict", "model", source=path)), "module.")


def _name_tasks(tensors: Mapping[str, Tensor], options: ConvertOptions, source: Path) -> dict[str, Tensor]:
    """Single-task models call their only decoder `decoder`: give it its task's name."""
    if not any(name.startswith("decoder.") for name in tensors):
        return dict(tensors)
    if len(options.tasks) != 1 or options.tasks[0] not in TASKS:
        raise ConvertError(f"{source} is a single-task model: say --tasks with one of {', '.join(TASKS)}")
    prefix = f"decoders.{options.tasks[0]}."
    return {name.replace("decoder.", prefix, 1) if name.startswith("decoder.") else name: value
            for name, value in tensors.items()}  # fmt: skip


def _config(
    tensors: Mapping[str, Tensor], tasks: list[str], options: ConvertOptions, source: Path
) -> tuple[ModelConfig, list[str]]:
    dim, _, patch, _ = shape_of(tensors, "backbone.patch_embed.proj.weight", 4, source)
    patches = shape_of(tensors, "backbone.pos_embed", 3, source)[1] - 1
    depth = count_numbered(tensors, "backbone.blocks.")
    experts_of = "backbone.blocks.{}.mlp.experts.htoh4.weight"
    moe_blocks = tuple(block for block in range(depth) if experts_of.format(block) in tensors)
    dense = [block for block in range(depth) if block not in moe_blocks]
    hidden = shape_of(tensors, f"backbone.blocks.{dense[0]}.mlp.fc1.weight", 2, source)[0] if dense else 4 * dim
    values: dict[str, Any] = {}
    assumed: list[str] = []
    if moe_blocks:
        experts, expert_hidden, _ = shape_of(tensors, experts_of.format(moe_blocks[0]), 3, source)
        why = "experts a token visits; the published command line has 4 (hidden = dim), the settings files 2 (2 x dim)"
        values = {"experts": experts, "expert_hidden": expert_hidden, "moe_blocks": moe_blocks}
        values["top_k"] = need(options.top_k, "--top-k", why, source)
        values["gate_input"] = "block" if options.gate_input_ahead else "normed"
        values["gate_floor"] = PRUNED_BELOW if options.expert_prune else 0.0
        if not options.gate_input_ahead:
            assumed.append("routers read normalised tokens (else: --gate-input-ahead)")
        if not options.expert_prune:
            assumed.append("small gate scores count (else: --expert-prune)")
    heads = options.heads or HEADS.get(dim)
    if options.heads is None and heads:
        assumed.append(f"{heads} attention heads, as published for {dim} channels (else: --heads)")
    size = options.image_hw or IMAGE_SIZES.get(patches)
    if options.image_hw is None and size:
        assumed.append(f"images of {size[0]}x{size[1]}, as published for {patches} patches (else: --image-size)")
    elif size is None:
        raise ConvertError(f"{source} has {patches} patches of {patch} pixels: say --image-size HEIGHTxWIDTH")
    head_configs = []
    for task in tasks:
        stream = shape_of(tensors, f"decoders.{task}.conv_0.weight", 4, source)[0]
        channels = shape_of(tensors, f"decoders.{task}.conv_4.weight", 4, source)[0]
        head_configs.append(head_of(task, channels, "setr_pup", (stream,), source))
    config = ModelConfig(
        dim=dim,
        depth=depth,
        heads=need(heads, "--heads", "the number of attention heads is in no tensor", source),
        tasks=tuple(head_configs),
        image_hw=split_grid(patches, size, patch, source),
        patch=patch,
        mlp_ratio=ratio_of(hidden, dim),
        embed_norm=False,
        detail_channels=0,
        balance="per_task",
        router_noise=0.0,
        widths=(1.0,),
        **values,
    )
    return config, assumed


def _gates_by_task(tensors: Mapping[str, Tensor], config: ModelConfig, tasks: int, source: Path) -> dict[str, Tensor]:
    """Every way of routing as one gate and one bias per task: `gate.{t}.w_gate` [D, E] and `gate.{t}.bias` [E]."""
    out = dict(tensors)
    for block in config.moe_blocks:
        stem = f"backbone.blocks.{block}.mlp.gate"
        single = out.pop(f"{stem}.w_gate", None)
        if single is not None:
            vectors_TG = _task_vectors(tensors, source) if single.shape[0] > config.dim else None
            if vectors_TG is not None and len(vectors_TG) < tasks:
                raise ConvertError(f"{source} has {tasks} tasks, but task vectors for only {len(vectors_TG)}")
            if single.shape[0] != config.dim + (0 if vectors_TG is None else vectors_TG.shape[1]):
                raise ConvertError(f"{source}: {stem}.w_gate {tuple(single.shape)} does not fit {config.dim} channels")
            for task in range(tasks):
                out[f"{stem}.{task}.w_gate"] = single[: config.dim].clone()
                if vectors_TG is not None:
                    out[f"{stem}.{task}.bias"] = vectors_TG[task] @ single[config.dim :]
        for task in range(tasks):
            weight = out.get(f"{stem}.{task}.w_gate")
            if weight is not None and weight.shape[-1] != config.experts:
                raise ConvertError(
                    f"{source}: block {block} routes to {weight.shape[-1]} experts, but there are {config.experts}: "
                    "a rank's file is missing"
                )
            out.setdefault(f"{stem}.{task}.bias", torch.zeros(config.experts))
    return out


def _task_vectors(tensors: Mapping[str, Tensor], source: Path) -> Tensor:
    """LayerNorm(fc2(GELU(fc1(one-hot)))) of every task, [T, G]."""
    stem = "backbone.gate_task_represent"
    tasks = shape_of(tensors, f"{stem}.fc1.weight", 2, source)[1]
    parts = {name.removeprefix(f"{stem}."): value for name, value in tensors.items() if name.startswith(stem)}
    try:
        hidden = F.gelu(F.linear(torch.eye(tasks), parts["fc1.weight"], parts["fc1.bias"]))
        out = F.linear(hidden, parts["fc2.weight"], parts["fc2.bias"])
        return F.layer_norm(out, out.shape[-1:], parts["norm.weight"], parts["norm.bias"], eps=1e-6)
    except (KeyError, RuntimeError) as error:
        raise ConvertError(f"{source}: the task vectors ({stem}) are incomplete: {error}") from None
