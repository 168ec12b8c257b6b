"""From a network to the words of the manifest: tasks, preprocessing, encoder, cost of every graph."""

from typing import Any

import msgspec

from ..models import MultiTaskModel
from ..models import adapters as low_rank
from ..models.config import HeadConfig
from ..models.families import AnyConfig
from ..models.flops import encoder_cost, head_cost
from ..models.swin_config import STAGES, SwinConfig
from ..models.taskexpert import write_hidden
from ..models.widths import kept, merged_widths
from ..runtime.bundles.encoder_spec import EncoderSpec, ExpertPaths, RouterSpec
from ..runtime.bundles.manifest_parts import Cost
from ..runtime.bundles.preprocessing import Preprocessing
from ..runtime.imaging.preprocess import IMAGENET_MEAN, IMAGENET_STD
from ..runtime.tasks import TaskSpec
from .errors import ExportError

_UNITS = {
    "classes": "class id",
    "depth": "m",
    "normals": "unit vector",
    "probability": "probability",
    "image_classes": "probability",
}


def task_specs(config: AnyConfig, metadata: dict[str, Any]) -> tuple[TaskSpec, ...]:
    """The checkpoint's own description of each task where it has one, numbered classes where not.

    Raises:
        ExportError: the description does not fit the network's heads.
    """
    try:
        described = {spec.name: spec for spec in msgspec.convert(metadata.get("tasks", []), list[TaskSpec])}
    except msgspec.ValidationError as error:
        raise ExportError(f"the checkpoint's task descriptions are damaged: {error}") from error
    specs = []
    for head in config.tasks:
        spec = described.get(head.name) or plain_spec(head)
        if (spec.kind, spec.channels) != (head.kind, head.channels):
            raise ExportError(
                f"task '{head.name}' is described as {spec.kind} with {spec.channels} channels, "
                f"but the network has {head.kind} with {head.channels}"
            )
        specs.append(spec)
    return tuple(specs)


def plain_spec(head: HeadConfig) -> TaskSpec:
    """A task in the words of the manifest, its classes numbered."""
    named = head.kind in ("classes", "image_classes")
    classes = tuple(f"class_{number}" for number in range(head.channels)) if named else ()
    return TaskSpec(head.name, head.kind, head.channels, classes=classes, unit=_UNITS[head.kind])


def preprocessing(metadata: dict[str, Any]) -> Preprocessing:
    """The checkpoint's preprocessing, or ImageNet statistics with letterbox."""
    given = metadata.get("preprocessing")
    if given is not None:
        return msgspec.convert(given, Preprocessing)
    pad = tuple(round(255 * mean) for mean in IMAGENET_MEAN)
    return Preprocessing("letterbox", IMAGENET_MEAN, IMAGENET_STD, pad_rgb=(pad[0], pad[1], pad[2]))


def encoder_spec(model: MultiTaskModel, paths: dict[str, ExpertPaths] | None = None) -> EncoderSpec:
    """Dimensions, the names of every task's routers in the weights file, and the task's expert paths if measured."""
    config, routers = model.config, {}
    if config.moe_blocks:
        levels = range(len(config.moe_blocks))
        for task in config.task_names:
            weights = tuple(f"routers.{task}.weight.{level}" for level in levels)
            biases = tuple(f"routers.{task}.bias.{level}" for level in levels)
            routers[task] = RouterSpec(weights, biases, (paths or {}).get(task))
    if isinstance(config, SwinConfig):
        return _swin_spec(config, _adapter_names(model))
    experts, top_k = (config.experts, config.top_k) if config.moe_blocks else (0, 0)
    return EncoderSpec(
        dim=config.dim,
        depth=config.depth,
        heads=config.heads,
        patch=config.patch,
        moe_blocks=config.moe_blocks,
        experts=experts,
        top_k=top_k,
        detail_channels=config.detail_channels,
        routers=routers,
        adapters=_adapter_names(model),
        taps=config.taps if config.levels else (),
    )


def _swin_spec(config: SwinConfig, adapters: dict[str, tuple[str, ...]]) -> EncoderSpec:
    strides = [config.image_hw[0] // config.level_grid(level)[0] for level in range(STAGES)]
    levels = tuple((stride, config.level_dim(level)) for level, stride in enumerate(strides))
    return EncoderSpec(
        dim=config.feature_dim,
        depth=sum(config.depths),
        heads=max(config.heads),
        patch=config.patch,
        detail_channels=config.detail_channels,
        adapters=adapters,
        levels=levels if config.levels else levels[-1:],
    )


def _adapter_names(model: MultiTaskModel) -> dict[str, tuple[str, ...]]:
    """Names of every task's adapters in the weights file, in the order in which the graph reads them."""
    sites = model.encoder.sites()
    parts = [f"{site.name}.{part}" for site in sites for part in ("down", "up")]
    return {task: tuple(f"adapters.{task}.{part}" for part in parts) for task in model.adapters}


def adapter_rows(model: MultiTaskModel, width: float) -> tuple[int, ...]:
    """Rows that an encoder graph reads of each of these tensors."""
    return low_rank.adapter_rows(model.encoder.sites(width))


def encoder_widths(config: AnyConfig, widths: list[float] | None) -> tuple[float, ...]:
    """Encoder widths that differ in at least one layer."""
    if isinstance(config, SwinConfig):
        return merged_widths(widths or config.widths, list(encoder_units(config, 1.0).values()))
    units = [config.heads]
    units += [config.mlp_hidden] if len(config.moe_blocks) < config.depth else []
    units += [config.expert_hidden] if config.moe_blocks else []
    units += [config.detail_hidden] if config.detail_channels else []
    return merged_widths(widths or config.widths, units)


def head_widths(config: AnyConfig, head: HeadConfig, widths: list[float] | None) -> tuple[float, ...]:
    """Decoder widths of a task that differ in at least one layer; published decoders have one."""
    if not head.slimmable:
        return (1.0,)
    units = [2 * config.decoder_hidden] if head.pooled else [2 * config.decoder_hidden, config.decoder_hidden]
    units += [config.decoder_expert_hidden] if head.decoder == "taskexpert" else []
    return merged_widths(widths or config.widths, units)


def encoder_units(config: AnyConfig, width: float) -> dict[str, int]:
    """Units that a width keeps of every kind of layer."""
    if isinstance(config, SwinConfig):
        units = {f"heads_{stage}": kept(config.heads[stage], width) for stage in range(STAGES)}
        return units | {f"hidden_{stage}": kept(config.mlp_hidden(stage), width) for stage in range(STAGES)}
    units = {"heads": kept(config.heads, width), "hidden": kept(config.mlp_hidden, width)}
    if config.moe_blocks:
        units["expert_hidden"] = kept(config.expert_hidden, width)
    return units


def head_units(config: AnyConfig, head: HeadConfig, width: float) -> dict[str, int]:
    """Units that a width keeps of a decoder; a published one has no others to drop."""
    if not head.slimmable:
        return {}
    hidden = kept(config.decoder_hidden, width)
    if head.decoder == "taskexpert":
        written, experts = kept(write_hidden(config), width), kept(config.decoder_expert_hidden, width)
        return {"hidden": hidden, "memory_hidden": written, "expert_hidden": experts}
    return {"hidden": hidden, "coarse_hidden": kept(2 * config.decoder_hidden, width)}


def graph_cost(model: MultiTaskModel, task: str | None, width: float) -> tuple[Cost, int]:
    """FLOPs of a graph in the manifest's terms, and its parameters."""
    config = model.config
    cost = encoder_cost(config, width) if task is None else head_cost(config, config.task(task), width)
    return Cost(cost.flops_image, cost.flops_row, cost.flops_row_per_expert), cost.parameters
