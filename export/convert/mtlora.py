"""MTLoRA (scale-lab/MTLoRA @ 333a375; Agiza et al. 2024): a training checkpoint with its pickled settings.

Checked against the numbers that the upstream code computes (tests/fixtures/mtlora-a). The settings are read as plain
dictionaries, without yacs. What the code can be set to but no published model is, and would compute something else, is
refused by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models import HeadConfig
from ...models.swin_config import STAGES, SwinConfig
from ..errors import ConvertError
from .changes import by_head, transposed
from .reader import read_file, tensors_of
from .source import ConvertOptions, Parts, Result, fill, need, ratio_of, shape_of, state_dict_of
from .swin_names import index_is_ours, read_shape, swin_rules
from .table import Rule
from .tasks import TASKS, head_of

_BLOCK, _OURS = "backbone.layers.{stage}.blocks.{block}", "encoder.stages.{stage}.blocks.{block}"
_MERGE = ("backbone.layers.{stage}.downsample", "encoder.stages.{stage}.merge")
_T, _HEADS = (transposed, "transposed"), (by_head, "rows ordered by head")


def _adapted(foreign: str, ours: str, *, up: Any = (None, "")) -> tuple[Rule, ...]:
    """The shared adapter of one layer: A [r, in] and B [out, r]."""
    return (
        Rule(f"{_BLOCK}.{foreign}.lora_shared_A", f"{_OURS}.{ours}.down", *_T),
        Rule(f"{_BLOCK}.{foreign}.lora_shared_B", f"{_OURS}.{ours}.up", *up),
    )


def _branch(foreign: str, ours: str) -> tuple[Rule, ...]:
    """The adapters of every task beside one layer."""
    own = f"adapters.{{task}}.stage{{stage}}_{ours}"
    return (
        Rule(f"{_BLOCK}.{foreign}.lora_tasks_A.{{task}}", f"{own}.down", *_T),
        Rule(f"{_BLOCK}.{foreign}.lora_tasks_B.{{task}}", f"{own}.up"),
    )


RULES: tuple[Rule, ...] = (
    *swin_rules(backbone="backbone.", linear=".linear"),
    *_adapted("attn.qkv", "attn.qkv_shared", up=_HEADS),
    *_adapted("attn.proj", "attn.proj_shared"),
    *_adapted("mlp.fc1", "mlp.up_shared"),
    *_adapted("mlp.fc2", "mlp.down_shared"),
    *_branch("attn.proj", "proj"),
    *_branch("mlp.fc1", "fc1"),
    *_branch("mlp.fc2", "fc2"),
    Rule(f"{_MERGE[0]}.reduction.linear.weight", f"{_MERGE[1]}.reduction"),
    Rule(f"{_MERGE[0]}.reduction.lora_shared_A", f"{_MERGE[1]}.shared.down", *_T),
    Rule(f"{_MERGE[0]}.reduction.lora_shared_B", f"{_MERGE[1]}.shared.up"),
    Rule("downsampler.{task}.downsample_{level}.{part}", "heads.{task}.levels.{level}.{part}"),
    Rule("decoders.decoders.{task}.last_layer.0.{part}", "heads.{task}.up.{part}"),
    Rule("decoders.decoders.{task}.last_layer.1.{part}", "heads.{task}.norms.0.{part}"),
    Rule("decoders.decoders.{task}.last_layer.3.{part}", "heads.{task}.out.{part}"),
)


def load(source: Path, options: ConvertOptions) -> Result:
    """Read a checkpoint of MTLoRA.

    Raises:
        ConvertError: something is missing, does not fit, has to be said, or is set as no published model is.
        UnsafeFileError: the file is damaged or would run code.
    """
    content = read_file(source)
    tensors = tensors_of(source, state_dict_of(content, "model", source=source))
    settings = content.get("config")
    return from_tensors(tensors, settings if isinstance(settings, Mapping) else {}, options, source)


def from_tensors(
    tensors: dict[str, Tensor], settings: Mapping[str, Any], options: ConvertOptions, source: Path
) -> Result:
    """The network of a state dict and its settings (none: empty); `source` is what errors call it.

    Raises:
        ConvertError: as in `load`.
    """
    _check_published(settings, source)
    stem = "decoders.decoders."
    listed = [task for task in TASKS if f"{stem}{task}.last_layer.0.weight" in tensors]
    present = {name.split(".")[2] for name in tensors if name.startswith(stem)}
    if present != set(listed) or not listed:
        raise ConvertError(f"{source} must have hrnet heads of known tasks ({', '.join(TASKS)}), got {sorted(present)}")
    order = _path(settings, "TASKS")
    foreign_tasks = [task for task in order or () if task in listed] or listed
    assumed = [] if settings else ["no settings in the file: mode 'matrix', one scale for all adapters"]
    config = _config(tensors, settings, foreign_tasks, options, source)
    last = {str(stage): str(depth - 1) for stage, depth in enumerate(config.depths)}

    def more(parts: Parts) -> Parts | str:
        parts = dict(parts)
        if "task" in parts:
            if "block" in parts and parts["block"] != last.get(parts["stage"]):
                return "a task's branch of a block that is not its stage's last: nothing reads it"
            if parts["task"] not in foreign_tasks:
                return "an adapter of a task that has no head"
            parts["task"] = TASKS[parts["task"]][0]
        return parts

    index_is_ours(tensors, source)
    absent = _absent_adapters(tensors, config)
    if absent:
        assumed.append(f"{len(absent) // 2} layers without shared adapters (an older layout) got adapters of zeros")
    _even_out(tensors, config, settings, foreign_tasks)
    model, found = fill(config, RULES, tensors, source=source, more=more, absent=absent)
    return Result(model, found, len(tensors), assumed)


def _path(settings: Mapping[str, Any], *names: str) -> Any:
    value: Any = settings
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _check_published(settings: Mapping[str, Any], source: Path) -> None:
    """Refuse settings under which upstream computes something that this network does not."""
    lora = ("MODEL", "MTLORA")
    expected: dict[tuple[str, ...], tuple[Any, ...]] = {
        (*lora, "SHARED_MODE"): ("matrix", "matrixv2", "lora_only"),
        (*lora, "QKV_ENABLED"): (True,),
        (*lora, "PROJ_ENABLED"): (True,),
        (*lora, "FC1_ENABLED"): (True,),
        (*lora, "FC2_ENABLED"): (True,),
        (*lora, "SPLIT_QKV"): (False,),
        ("MODEL", "SWIN", "APE"): (False,),
        ("MODEL", "SWIN", "QKV_BIAS"): (True,),
        ("MODEL", "SWIN", "PATCH_NORM"): (True,),
        ("MODEL", "SWIN", "QK_SCALE"): (None,),
        ("MODEL", "TYPE"): ("swin",),
    }
    for path, allowed in expected.items():
        value = _path(settings, *path)
        if value is not None and value not in allowed:
            raise ConvertError(f"{source} was trained with {'.'.join(path)} = {value!r}; supported: {allowed}")


def _config(
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    tasks: list[str],
    options: ConvertOptions,
    source: Path,
) -> SwinConfig:
    dim, _, patch, _ = shape_of(tensors, "backbone.patch_embed.proj.weight", 4, source)
    depths, heads, window = read_shape(tensors, "backbone.", source)
    first = "backbone.layers.0.blocks.0"
    hidden = shape_of(tensors, f"{first}.mlp.fc1.linear.weight", 2, source)[0]
    side = _path(settings, "DATA", "IMG_SIZE")
    side = (side, side) if isinstance(side, int) else None
    shared, own = (_ranks(tensors, kind) for kind in ("lora_shared_A", "lora_tasks_A."))
    mode = _path(settings, "MODEL", "MTLORA", "SHARED_MODE") or "matrix"
    scales = _shared_scales(settings, options, source) if any((*shared, *own)) else (1.0,) * STAGES
    return SwinConfig(
        tasks=tuple(_head(tensors, task, source) for task in tasks),
        dim=dim,
        depths=depths,
        heads=heads,
        image_hw=need(side or options.image_hw, "--image-size", "the image size is in no tensor", source),
        patch=patch,
        window=window,
        mlp_ratio=ratio_of(hidden, dim),
        shared_ranks=shared,
        task_ranks=own if mode != "lora_only" else (0,) * STAGES,
        shared_scales=scales,
        task_scales=tuple(_task_scale(settings, stage, tasks[0], scales) for stage in range(STAGES)),
        adapter_mode="matrixv2" if mode == "matrixv2" else "matrix",
        merge_adapters=any(".reduction.lora_shared_A" in name for name in tensors),
        widths=(1.0,),
    )


def _head(tensors: Mapping[str, Tensor], task: str, source: Path) -> HeadConfig:
    levels = [f"downsampler.{task}.downsample_{level}.weight" for level in range(STAGES)]
    stream = tuple(shape_of(tensors, name, 4, source)[0] for name in levels)
    channels = shape_of(tensors, f"decoders.decoders.{task}.last_layer.3.weight", 4, source)[0]
    return head_of(task, channels, "hrnet", stream, source)


def _ranks(tensors: Mapping[str, Tensor], kind: str) -> tuple[int, ...]:
    """The largest rank of every stage; narrower adapters are filled up with zeros."""
    ranks = [0] * STAGES
    for name, value in tensors.items():
        if name.startswith("backbone.layers.") and kind in name:
            stage = int(name.split(".")[2])
            ranks[stage] = max(ranks[stage], value.shape[0])
    return tuple(ranks)


def _shared_scales(settings: Mapping[str, Any], options: ConvertOptions, source: Path) -> tuple[float, ...]:
    scales = _path(settings, "MODEL", "MTLORA", "SHARED_SCALE")
    if not isinstance(scales, list):
        scales = [need(options.scale, "--scale", "the adapters' factor is in no tensor (published: 4)", source)]
    scales = scales * STAGES if len(scales) == 1 else scales
    return tuple(float(scale) for scale in scales)


def _task_scale(settings: Mapping[str, Any], stage: int, task: str, shared: tuple[float, ...]) -> float:
    """Upstream reads TASK_SCALE, but never uses it: without a scale per task, the shared one counts."""
    listed = _path(settings, "MODEL", "MTLORA", "SCALE_PER_TASK_LIST")
    own = listed[stage].get(task) if isinstance(listed, list) and len(listed) == STAGES else None
    return shared[stage] if own is None else float(own)


def _even_out(tensors: dict[str, Tensor], config: SwinConfig, settings: Mapping[str, Any], tasks: list[str]) -> None:
    """One rank and one scale a stage for all tasks: ranks are filled up with zeros, factors go into B."""
    for name in [name for name in tensors if ".lora_tasks_" in name and name.rpartition(".")[2] in tasks]:
        stage, task = int(name.split(".")[2]), name.rpartition(".")[2]
        value, rank = tensors[name], config.task_ranks[stage]
        if ".lora_tasks_A." in name:
            tensors[name] = torch.nn.functional.pad(value, (0, 0, 0, max(0, rank - value.shape[0])))
            continue
        factor = _task_scale(settings, stage, task, config.shared_scales) / (config.task_scales[stage] or 1.0)
        value = value if factor == 1.0 else value * factor
        tensors[name] = torch.nn.functional.pad(value, (0, max(0, rank - value.shape[1])))


def _absent_adapters(tensors: Mapping[str, Tensor], config: SwinConfig) -> dict[str, Tensor]:
    """Before 2024-06, blocks that are not the last of their stage had no shared adapters: zeros add nothing."""
    ours = {"attn.qkv": "attn.qkv_shared", "attn.proj": "attn.proj_shared"}
    ours |= {"mlp.fc1": "mlp.up_shared", "mlp.fc2": "mlp.down_shared"}
    absent: dict[str, Tensor] = {}
    for stage, depth in enumerate(config.depths):
        for block in range(depth if config.shared_ranks[stage] else 0):
            for foreign, own in ours.items():
                stem = f"backbone.layers.{stage}.blocks.{block}.{foreign}"
                weight = tensors.get(f"{stem}.linear.weight")
                if weight is None or any(f"{stem}.lora_shared_{part}" in tensors for part in "AB"):
                    continue
                rank, name = config.shared_ranks[stage], f"encoder.stages.{stage}.blocks.{block}.{own}"
                absent[f"{name}.down"] = torch.zeros(weight.shape[1], rank)
                absent[f"{name}.up"] = torch.zeros(weight.shape[0], rank)
    return absent
