"""Image classifiers: Swins as timm names them (patch merging opens a stage), or as their authors do (it closes one).

Checked against timm 1.0.31 (tests/fixtures/timm).
"""

from pathlib import Path

from ...models import HeadConfig
from ...models.swin_config import STAGES, SwinConfig
from ..errors import ConvertError
from .source import ConvertOptions, Parts, Result, fill, ratio_of, shape_of
from .swin_names import index_is_ours, read_shape, swin_rules
from .table import Rule
from .vit import classifier_weights, task_name

RULES: tuple[Rule, ...] = (
    *swin_rules(),
    Rule("norm.{part}", "heads.{task}.norm.{part}"),
    Rule("head.fc.{part}", "heads.{task}.out.{part}"),
    Rule("head.{part}", "heads.{task}.out.{part}", None, "as its authors name it"),
)


def load(source: Path, options: ConvertOptions) -> Result:
    """Read a Swin classifier.

    Raises:
        ConvertError: something is missing, does not fit, or has to be said.
        UnsafeFileError: the file is damaged or would run code.
    """
    tensors = classifier_weights(source, options)
    task = task_name(options, source)
    dim, _, patch, _ = shape_of(tensors, "patch_embed.proj.weight", 4, source)
    depths, heads, window = read_shape(tensors, "", source)
    head = next((name for name in ("head.fc.weight", "head.weight") if name in tensors), None)
    if head is None:
        raise ConvertError(f"{source} has no classifier ('head.fc.weight'): a backbone alone answers no task")
    if f"layers.{STAGES - 1}.downsample.norm.weight" in tensors:
        # timm's merging of a stage comes before its blocks; ours, and the authors', after those of the stage before.
        tensors = {_one_stage_earlier(name): value for name, value in tensors.items()}
    side = window * patch * 2 ** (STAGES - 1)
    usual = f"images of {side}x{side}, as usual for windows of {window} (else: --image-size)"
    config = SwinConfig(
        tasks=(
            HeadConfig(task, "image_classes", shape_of(tensors, head, 2, source)[0], decoder="linear", pool="mean"),
        ),
        dim=dim,
        depths=depths,
        heads=heads,
        image_hw=options.image_hw or (side, side),
        patch=patch,
        window=window,
        mlp_ratio=ratio_of(shape_of(tensors, "layers.0.blocks.0.mlp.fc1.weight", 2, source)[0], dim),
        widths=(1.0,),
    )
    index_is_ours(tensors, source)

    def more(parts: Parts) -> Parts:
        return {**parts, "task": task}

    model, found = fill(config, RULES, tensors, source=source, more=more)
    return Result(model, found, len(tensors), [] if options.image_hw else [usual])


def _one_stage_earlier(name: str) -> str:
    layers, stage, rest = (*name.split(".", 2), "", "")[:3]
    return f"{layers}.{int(stage) - 1}.{rest}" if layers == "layers" and rest.startswith("downsample.") else name
