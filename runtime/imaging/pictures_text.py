"""Text, colour chips and colour bars, drawn with cv2 alone; all pixels are uint8 RGB.

OpenCV 5 draws its built-in TrueType face for the Hershey names, OpenCV 4 draws strokes: the strokes are rendered four
times too large and averaged down, which makes them as smooth as the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

INK = (32, 36, 44)
MUTED = (104, 110, 122)
PAPER = (255, 255, 255)
HAIRLINE = (214, 218, 224)

BODY_PX = 10  # height of a capital letter
TITLE_PX = 11
SMALL_PX = 9
LINE = 2.1  # line pitch in capital heights

_OVERSAMPLE = 1 if int(cv2.__version__.split(".")[0]) >= 5 else 4
_PAD = 2  # pixels around a line of text that anti-aliasing may reach
_HERSHEY_CAPITAL = 21  # height of a capital letter at font scale 1


@dataclass(frozen=True)
class LegendEntry:
    """One colour of a class map and what it stands for; `share` is its part of the picture in [0, 1]."""

    label: str
    colour: tuple[int, int, int]
    share: float


@dataclass(frozen=True)
class ColourBar:
    """A colour scale: `ramp_N3` runs from the value `low` (left) to `high` (right), both in `unit`."""

    ramp_N3: np.ndarray
    low: float
    high: float
    unit: str


def blank(height: int, width: int, colour: tuple[int, int, int] = PAPER) -> np.ndarray:
    """An empty uint8 RGB picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def line_height(capital_px: int = BODY_PX) -> int:
    """Distance in pixels between two lines of text."""
    return round(capital_px * LINE)


@lru_cache(maxsize=512)
def _text_mask(text: str, capital_px: int, bold: bool) -> tuple[np.ndarray, int]:
    """Coverage of a line of text, float32 in [0, 1], and the row of its baseline."""
    # Neither face knows more than Latin; a file name may hold anything.
    text = text.encode("ascii", "replace").decode()
    size = capital_px * _OVERSAMPLE
    if _OVERSAMPLE == 1:
        font, thickness = (cv2.FONT_HERSHEY_DUPLEX, 2) if bold else (cv2.FONT_HERSHEY_SIMPLEX, 1)
    else:
        font, thickness = cv2.FONT_HERSHEY_DUPLEX, max(1, round(size * (0.15 if bold else 0.10)))
    scale = size / _HERSHEY_CAPITAL
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    pad = _PAD * _OVERSAMPLE
    rows = -(-(height + below + 2 * pad) // _OVERSAMPLE) * _OVERSAMPLE
    columns = -(-(width + 2 * pad) // _OVERSAMPLE) * _OVERSAMPLE
    mask = np.zeros((rows, columns), np.uint8)
    cv2.putText(mask, text, (pad, pad + height), font, scale, 255, thickness, cv2.LINE_AA)
    if _OVERSAMPLE > 1:
        mask = cv2.resize(mask, (columns // _OVERSAMPLE, rows // _OVERSAMPLE), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / 255, (pad + height) // _OVERSAMPLE


def text_width(text: str, capital_px: int = BODY_PX, bold: bool = False) -> int:
    """Width of a line of text in pixels."""
    return _text_mask(text, capital_px, bold)[0].shape[1] - 2 * _PAD if text else 0


def draw_text(
    canvas_HWC: np.ndarray,
    text: str,
    x: int,
    baseline_y: int,
    *,
    capital_px: int = BODY_PX,
    colour: tuple[int, int, int] = INK,
    bold: bool = False,
) -> None:
    """Write one line into `canvas_HWC`, starting at `x`; what falls outside the canvas is cut off."""
    if not text:
        return
    mask, baseline = _text_mask(text, capital_px, bold)
    top, left = baseline_y - baseline, x - _PAD
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + mask.shape[0], canvas_HWC.shape[0]), min(left + mask.shape[1], canvas_HWC.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    alpha = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    below = canvas_HWC[y0:y1, x0:x1]
    below[:] = np.round(below * (1 - alpha) + np.array(colour, np.float32) * alpha).astype(np.uint8)


def shorten(text: str, width: int, capital_px: int = BODY_PX, bold: bool = False) -> str:
    """The text, cut at its end with '..' where it is wider than `width` pixels."""
    if text_width(text, capital_px, bold) <= width:
        return text
    while text and text_width(text + "..", capital_px, bold) > width:
        text = text[:-1]
    return text + ".."


def text_block(lines: list[tuple[str, bool]], width: int, capital_px: int = BODY_PX) -> np.ndarray:
    """Lines of text (each with: is it a heading?) one below the other, on paper."""
    pitch = line_height(capital_px)
    canvas = blank(max(1, pitch * len(lines)), width)
    for index, (text, heading) in enumerate(lines):
        baseline = index * pitch + capital_px + (pitch - capital_px) // 2
        colour = INK if heading else MUTED
        short = shorten(text, width, capital_px, heading)
        draw_text(canvas, short, 0, baseline, capital_px=capital_px, colour=colour, bold=heading)
    return canvas


def legend_block(entries: tuple[LegendEntry, ...], width: int, max_rows: int = 4) -> np.ndarray:
    """Colour chips with their names, flowing over at most `max_rows` rows; the rest is counted, not shown."""
    pitch, chip = line_height(SMALL_PX) + 3, SMALL_PX + 3
    canvas = blank(pitch * max_rows, width)
    x, row = 0, 0
    for index, entry in enumerate(entries):
        rest = len(entries) - index
        needed = chip + 4 + text_width(entry.label, SMALL_PX) + 10
        reserve = text_width(f"+ {rest} more", SMALL_PX) if row == max_rows - 1 and rest > 1 else 0
        if x and x + needed + reserve > width:
            if row == max_rows - 1:
                draw_text(canvas, f"+ {rest} more", x, row * pitch + chip + 1, capital_px=SMALL_PX, colour=MUTED)
                break
            x, row = 0, row + 1
        top = row * pitch + 2
        cv2.rectangle(canvas, (x, top), (x + chip - 1, top + chip - 1), entry.colour, cv2.FILLED)
        cv2.rectangle(canvas, (x, top), (x + chip - 1, top + chip - 1), MUTED, 1)
        label = shorten(entry.label, max(1, width - x - chip - 4), SMALL_PX)
        draw_text(canvas, label, x + chip + 4, top + chip - 2, capital_px=SMALL_PX)
        x += needed
    return canvas[: (row + 1) * pitch]


def bar_block(bar: ColourBar, width: int, ticks: int = 5) -> np.ndarray:
    """A colour bar with `ticks` labelled values under it."""
    height = 10
    canvas = blank(height + line_height(SMALL_PX) + 4, width)
    ramp = cv2.resize(bar.ramp_N3[None].astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    canvas[2 : 2 + height] = ramp
    digits = 1 if bar.high - bar.low >= 2 else 2
    for index, value in enumerate(np.linspace(bar.low, bar.high, ticks)):
        label = f"{value:.{digits}f}" + (f" {bar.unit}" if index == ticks - 1 else "")
        wide = text_width(label, SMALL_PX)
        centre = round(index * (width - 1) / (ticks - 1))
        x = min(max(centre - wide // 2, 0), width - wide)
        draw_text(canvas, label, x, 2 + height + 4 + SMALL_PX, capital_px=SMALL_PX, colour=MUTED)
    return canvas


def chip(canvas_HWC: np.ndarray, text: str, margin: int = 8) -> None:
    """Write `text` on a dark chip in the lower left corner of a picture."""
    text = shorten(text, max(1, canvas_HWC.shape[1] - 2 * margin - 16))
    wide, tall = text_width(text) + 14, BODY_PX + 14
    bottom = canvas_HWC.shape[0] - margin
    top = max(0, bottom - tall)
    patch = canvas_HWC[top:bottom, margin : margin + wide]
    patch[:] = np.round(patch * 0.2 + np.array(INK) * 0.8).astype(np.uint8)
    draw_text(canvas_HWC, text, margin + 7, bottom - 7, colour=PAPER)
