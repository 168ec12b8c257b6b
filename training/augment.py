"""From a render to a training view: roll, crop, zoom, mirror, letterbox, and the look of a photograph.

Geometry conventions
- A mirrored picture has mirrored normals: x changes its sign.
- A picture that is turned (before it is cropped) has turned normals and the same depth; its corners have no label.
- A crop that is enlarged by `zoom` has `zoom` times the focal length. Depth is divided by `zoom`: what the picture
  shows is what the renderer's own camera would show that much nearer, and a network that is told no focal length
  can only learn *one* camera (the canonical camera of Metric3D; NYUD training divides depth by the scale as well).
  Normals stay the physical ones, in camera axes.
- Half of the samples are cropped to another aspect ratio and letterboxed with the mean colour, as the runtime does
  with photographs; the padding is not valid in any loss.

Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..runtime.imaging.preprocess import IMAGENET_MEAN as IMAGE_MEAN
from ..runtime.imaging.preprocess import IMAGENET_STD as IMAGE_STD
from .errors import ConfigError
from .rotation import rotated, turned_normals
from .tasks import IGNORED_CLASS, TASK_KINDS

__all__ = ["IMAGE_MEAN", "IMAGE_STD", "PAD_RGB", "AugmentConfig", "View", "augment", "draw_view", "photometric"]

PAD_RGB = tuple(round(255 * value) for value in IMAGE_MEAN)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# An edge that covers this much of a shrunk pixel marks it: keeps lines one pixel thin and unbroken at 224 -> 128.
_EDGE_COVER = 0.3


@dataclass(frozen=True)
class AugmentConfig:
    """How far training views stray from the render. Probabilities are per sample."""

    flip: float = 0.5
    rotate_deg: float = 0.0  # at most this far, to either side
    letterbox: float = 0.5
    aspect: tuple[float, float] = (0.6, 1.6)
    crop: float = 0.5  # how often a part is taken; else the whole frame
    crop_scale: tuple[float, float] = (0.75, 1.0)  # side of the crop over side of the frame
    photometric: float = 0.9
    brightness: float = 0.35
    contrast: float = 0.35
    saturation: float = 0.6
    hue: float = 0.08  # turns
    gamma: float = 0.35
    channel_shift: float = 0.12
    grey: float = 0.1
    noise: float = 0.3
    noise_std: float = 12.0
    blur: float = 0.4
    jpeg: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 <= self.rotate_deg <= 180:
            raise ConfigError(f"augment.rotate_deg must be from 0 (off) to 180, got {self.rotate_deg:g}")


@dataclass(frozen=True)
class View:
    """Which part of a frame is shown where in the training picture.

    `top`, `left`, `height`, `width` are the crop in frame pixels; `box_hw` its size in the `size_hw` picture, where
    it lies at `offset_hw`; `zoom` (>= 1 for any crop) is the change of focal length against the whole frame. Before
    that the frame is turned counter-clockwise by `angle_deg`.
    """

    top: int
    left: int
    height: int
    width: int
    box_hw: tuple[int, int]
    offset_hw: tuple[int, int]
    size_hw: tuple[int, int]
    zoom: float
    flip: bool
    angle_deg: float = 0.0


def draw_view(
    rng: np.random.Generator, frame_hw: tuple[int, int], size_hw: tuple[int, int], config: AugmentConfig
) -> View:
    """Draw a random view of a frame of `frame_hw` for a training picture of `size_hw`."""
    frame_h, frame_w = frame_hw
    target_aspect = size_hw[1] / size_hw[0]
    aspect = target_aspect
    if rng.random() < config.letterbox:
        aspect *= float(np.exp(rng.uniform(*np.log(config.aspect))))
    scale = float(rng.uniform(*config.crop_scale)) if rng.random() < config.crop else 1.0
    # The largest box of that aspect inside the frame, then `scale` of it.
    width = min(frame_w, frame_h * aspect) * scale
    height = width / aspect
    crop_h, crop_w = max(8, round(height)), max(8, round(width))
    crop_h, crop_w = min(crop_h, frame_h), min(crop_w, frame_w)
    top, left = int(rng.integers(frame_h - crop_h + 1)), int(rng.integers(frame_w - crop_w + 1))
    flip = bool(rng.random() < config.flip)
    view = view_of_crop((top, left, crop_h, crop_w), frame_hw, size_hw, flip=flip)
    if not config.rotate_deg:
        return view
    return replace(view, angle_deg=float(rng.uniform(-config.rotate_deg, config.rotate_deg)))


def view_of_crop(
    crop: tuple[int, int, int, int], frame_hw: tuple[int, int], size_hw: tuple[int, int], *, flip: bool = False
) -> View:
    """The view that letterboxes `crop` (top, left, height, width) of a frame into the middle of `size_hw`."""
    top, left, height, width = crop
    scale = min(size_hw[0] / height, size_hw[1] / width)
    box_hw = (max(1, min(size_hw[0], round(height * scale))), max(1, min(size_hw[1], round(width * scale))))
    whole = min(size_hw[0] / frame_hw[0], size_hw[1] / frame_hw[1])
    offset_hw = ((size_hw[0] - box_hw[0]) // 2, (size_hw[1] - box_hw[1]) // 2)
    return View(top, left, height, width, box_hw, offset_hw, size_hw, scale / whole, flip)


def augment(
    sample: Mapping[str, np.ndarray], tasks: Sequence[str], view: View
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Show a sample through a view: geometry only, see `photometric` for the colours.

    Args:
        sample: `image` uint8 HxWx3 and the ground truth of each of `tasks`.
        tasks: the tasks whose ground truth is wanted (the others are left alone: warping costs time).
        view: what to show.

    Returns:
        The picture, uint8, and each task's target: class ids uint8 with 255 where there is none; depth float32,
        0 where there is none; normals float32 HxWx3, zero where there are none; probability tasks uint8 0, 1, or
        255 where there is none; image classes as they are.
    """
    image = _place(_resize(_cut(sample["image"], view, PAD_RGB, smooth=True), view, "image"), view, PAD_RGB)
    targets = {}
    for task in tasks:
        kind = TASK_KINDS[task]
        truth = sample[task]
        if kind == "image_classes":
            targets[task] = np.asarray(truth)
            continue
        if kind == "classes":
            part = _cut(truth.astype(np.uint8), view, IGNORED_CLASS)
            targets[task] = _place(_resize(part, view, "nearest"), view, IGNORED_CLASS)
        elif kind == "depth":
            part = _cut(np.nan_to_num(truth.astype(np.float32), posinf=0), view, 0)
            targets[task] = _place(_resize(part, view, "nearest") / np.float32(view.zoom), view, 0)
        elif kind == "normals":
            part = _cut(np.nan_to_num(truth.astype(np.float32)), view, 0)
            normals = turned_normals(part, view.angle_deg) if view.angle_deg else part
            normals = _place(_resize(normals, view, "nearest"), view, 0)
            targets[task] = normals * np.array([-1, 1, 1], np.float32) if view.flip else normals
        else:
            part = _cut(truth.astype(np.uint8), view, IGNORED_CLASS)
            targets[task] = _place(_resize_mask(part, view, thin=task == "edge"), view, IGNORED_CLASS)
    return image, targets


def _cut(array: np.ndarray, view: View, outside: int | tuple[int, ...], *, smooth: bool = False) -> np.ndarray:
    if view.angle_deg:
        array = rotated(array, view.angle_deg, outside, smooth=smooth)
    return array[view.top : view.top + view.height, view.left : view.left + view.width]


def _resize(array: np.ndarray, view: View, how: str) -> np.ndarray:
    if array.shape[:2] == view.box_hw:
        return array
    shrinks = view.box_hw[0] < array.shape[0]
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # EXACT: the plain INTER_NEAREST is up to half a pixel off where it shrinks.
    flag = smooth if how == "image" else cv2.INTER_NEAREST_EXACT
    return cv2.resize(np.ascontiguousarray(array), view.box_hw[::-1], interpolation=flag)


def _resize_mask(mask: np.ndarray, view: View, *, thin: bool) -> np.ndarray:
    """0 or 1 by how much of a pixel is marked; 255, none, where at least half of it is."""
    cover = _resize((mask == 1).astype(np.float32), view, "image")
    shrinks = view.box_hw[0] < mask.shape[0]
    marked = (cover >= (_EDGE_COVER if thin and shrinks else 0.5)).astype(np.uint8)
    unknown = mask == IGNORED_CLASS
    if unknown.any():
        marked[_resize(unknown.astype(np.float32), view, "image") >= 0.5] = IGNORED_CLASS
    return marked


def _place(array: np.ndarray, view: View, pad: int | tuple[int, ...]) -> np.ndarray:
    if view.flip:
        array = array[:, ::-1]
    if view.box_hw == view.size_hw:
        return np.ascontiguousarray(array)
    canvas = np.empty((*view.size_hw, *array.shape[2:]), array.dtype)
    canvas[...] = pad
    top, left = view.offset_hw
    canvas[top : top + view.box_hw[0], left : left + view.box_hw[1]] = array
    return canvas


def photometric(rng: np.random.Generator, image: np.ndarray, config: AugmentConfig) -> np.ndarray:
    """Give a render the many looks of photographs: light, colour, noise, blur, compression.

    Gamma, brightness, contrast and colour casts are one 256-entry table per channel; saturation, hue and grey are
    one 3 x 3 matrix: about 1 ms at 224 x 224 where a chain of float operations took 6.
    """
    if rng.random() >= config.photometric:
        return image
    image = cv2.LUT(image, _tone_table(rng, config))
    image = cv2.transform(image, _colour_matrix(rng, config))
    if rng.random() < config.blur:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6)))
    if rng.random() < config.noise:
        std = float(rng.uniform(1, config.noise_std))
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(std)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < config.jpeg:
        quality = int(rng.integers(25, 90))
        done, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(code, cv2.IMREAD_COLOR) if done else None
        image = image if decoded is None else decoded
    return image


def _tone_table(rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    gamma = np.exp(rng.uniform(-config.gamma, config.gamma))
    contrast = np.exp(rng.uniform(-config.contrast, config.contrast))
    brightness = np.exp(rng.uniform(-config.brightness, config.brightness))
    cast = np.exp(rng.uniform(-config.channel_shift, config.channel_shift, 3))
    offset = rng.uniform(-config.channel_shift, config.channel_shift, 3) * 0.4
    level = (np.arange(256) / 255.0)[:, None] ** gamma
    level = ((level - 0.5) * contrast + 0.5) * brightness * cast + offset
    return (np.clip(level, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(1, 256, 3)


def _colour_matrix(rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    saturation = 0.0 if rng.random() < config.grey else float(np.exp(rng.uniform(-1, 1) * config.saturation))
    angle = float(rng.uniform(-config.hue, config.hue)) * 2 * np.pi
    # Rotation about the grey axis (Rodrigues), then a pull towards the luma.
    third, root = (1 - np.cos(angle)) / 3, np.sin(angle) / np.sqrt(3)
    turn = np.cos(angle) * np.eye(3) + third + root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    pull = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    return (pull @ turn).astype(np.float32)
