"""The tasks of published multi-task models: what they are called, here and there, and what kind of answer they give."""

from pathlib import Path

from ...models.config_base import DecoderKind, HeadConfig, HeadKind
from ..errors import ConvertError

#: Foreign name -> our name and kind, in the order in which M3ViT numbers its tasks (whatever order its settings list).
TASKS: dict[str, tuple[str, HeadKind]] = {
    "semseg": ("semseg", "classes"),
    "human_parts": ("human_parts", "classes"),
    "sal": ("saliency", "probability"),
    "normals": ("normals", "normals"),
    "edge": ("edge", "probability"),
    "depth": ("depth", "depth"),
}

#: Names of the classes of PASCAL-Context as multi-task papers use it, by task and number of channels.
CLASSES: dict[tuple[str, int], tuple[str, ...]] = {
    ("semseg", 21): (
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    ("human_parts", 7): ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg"),
}


def head_of(foreign: str, channels: int, decoder: DecoderKind, stream: tuple[int, ...], source: Path) -> HeadConfig:
    """Our description of a published task's head.

    Raises:
        ConvertError: no such task is known, or it cannot have that many channels.
    """
    if foreign not in TASKS:
        raise ConvertError(f"{source} has a task '{foreign}'; known are {', '.join(TASKS)}")
    name, kind = TASKS[foreign]
    try:
        return HeadConfig(name, kind, channels, decoder=decoder, stream=stream, log_depth=False)
    except ValueError as error:
        raise ConvertError(f"{source}: {error}") from None
