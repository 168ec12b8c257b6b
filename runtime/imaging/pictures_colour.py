"""Arrays of a result -> colours. Everything here is uint8 RGB of the size of the picture it is drawn for."""

from __future__ import annotations

import cv2
import numpy as np

from .pictures_text import ColourBar, LegendEntry

_GOLDEN = 0.61803398875
_LEAST_REGION = 2e-3  # a salient region below this share of the pixels gets no line around it: specks
_LEAST_SHARE = 1e-3  # a class below this share of the pixels gets no legend entry


def depth_ramp() -> np.ndarray:
    """256 colours, uint8 [256, 3], from near (bright) to far (dark): equal steps look equally large."""
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(bgr[::-1, 0, ::-1])


def default_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """`count` colours that lie apart, for a task that brings no palette; class 0 is a neutral grey."""
    hues = (np.arange(count) * _GOLDEN * 180) % 180
    value = np.where(np.arange(count) % 2, 225, 180)
    hsv = np.stack([hues, np.full(count, 150), value], axis=-1).astype(np.uint8)[None]
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    colours = [(int(red), int(green), int(blue)) for red, green, blue in rgb]
    return ((128, 128, 128), *colours[1:]) if count else ()


def upscale_classes(ids_HW: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize class ids so that borders come out smooth: the largest linearly resized membership wins."""
    height, width = size_hw
    if ids_HW.shape == (height, width):
        return ids_HW
    present = np.unique(ids_HW)
    # Rounds the steps of the small grid: about half of one of its pixels.
    sigma = 0.5 * max(height / ids_HW.shape[0], width / ids_HW.shape[1])
    best = np.full((height, width), -1.0, np.float32)
    out = np.full((height, width), present[0], ids_HW.dtype)
    for class_id in present:
        share = cv2.resize((ids_HW == class_id).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        if sigma > 0.5:
            share = cv2.GaussianBlur(share, (0, 0), sigma)
        wins = share > best
        out[wins], best[wins] = class_id, share[wins]
    return out


def class_colours(
    ids_HW: np.ndarray, names: tuple[str, ...], palette: tuple[tuple[int, int, int], ...]
) -> tuple[np.ndarray, tuple[LegendEntry, ...]]:
    """Colours of a class map, and a legend of the classes present, the largest first.

    An id outside the palette is drawn in white and called by its number.
    """
    colours = palette or default_palette(max(len(names), int(ids_HW.max()) + 1))
    table = np.full((256, 3), 255, np.uint8)
    table[: len(colours)] = np.array(colours, np.uint8)[:256]
    picture = table.take(ids_HW, axis=0)  # five times as fast as table[ids_HW]
    counts = np.bincount(ids_HW.ravel(), minlength=256)
    entries = [
        LegendEntry(
            names[index] if index < len(names) else f"class {index}",
            (int(table[index][0]), int(table[index][1]), int(table[index][2])),
            float(counts[index]) / ids_HW.size,
        )
        for index in np.argsort(-counts, kind="stable")
        if counts[index] >= _LEAST_SHARE * ids_HW.size
    ]
    return picture, tuple(entries)


def depth_range_m(depth_HW: np.ndarray) -> tuple[float, float]:
    """The range a depth map is drawn over: its 1st to 99th percentile, never empty."""
    finite = depth_HW[np.isfinite(depth_HW)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    return low, max(high, low + 0.01)


def depth_colours(depth_HW: np.ndarray, range_m: tuple[float, float]) -> tuple[np.ndarray, ColourBar]:
    """Colours of a depth map (near = bright) and its colour bar; what is not finite is drawn as the far end."""
    low, high = range_m
    share = np.nan_to_num((depth_HW - low) / (high - low), nan=1.0, posinf=1.0, neginf=0.0)
    index = np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)
    ramp = depth_ramp()
    return ramp.take(index, axis=0), ColourBar(ramp, low, high, "m")


def normals_colours(normals_HW3: np.ndarray) -> np.ndarray:
    """The usual colours of surface normals: x, y, z from [-1, 1] to red, green, blue."""
    return np.round(np.clip((normals_HW3 + 1) / 2, 0, 1) * 255).astype(np.uint8)


def ink_drawing(probability_HW: np.ndarray) -> np.ndarray:
    """Edges as ink on paper: probability 0 is white, 1 is black."""
    grey = np.round(255 * (1 - np.clip(probability_HW, 0, 1))).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def spotlight(image_HWC: np.ndarray, probability_HW: np.ndarray) -> np.ndarray:
    """The photograph, dimmed and grey where the probability is low, with a line where it crosses one half."""
    light = np.clip(probability_HW, 0, 1).astype(np.float32)[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    dim = grey * 0.30 + np.array((8, 14, 34), np.float32)
    out = np.round(dim * (1 - light) + image_HWC * light).clip(0, 255).astype(np.uint8)
    inside = (probability_HW >= 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [outline for outline in outlines if cv2.contourArea(outline) >= _LEAST_REGION * inside.size]
    cv2.drawContours(out, large, -1, (255, 176, 32), 2, cv2.LINE_AA)
    return out
