"""Pictures side by side: cells with titles and footnotes, in rows, on one sheet of paper. All pixels are uint8 RGB."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .pictures_text import (
    BODY_PX,
    HAIRLINE,
    INK,
    MUTED,
    PAPER,
    SMALL_PX,
    TITLE_PX,
    ColourBar,
    LegendEntry,
    bar_block,
    blank,
    draw_text,
    legend_block,
    line_height,
    shorten,
    text_block,
    text_width,
)

MARGIN = 20
GAP = 12
TALLEST = 3  # a picture's height in a cell is at most this many widths of the cell


@dataclass(frozen=True)
class Cell:
    """One picture on a sheet, and what is written above and below it."""

    picture_HWC: np.ndarray
    title: str = ""
    note: str = ""
    legend: tuple[LegendEntry, ...] = ()
    bar: ColourBar | None = None


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a heading, lines under it, and the cells to their right."""

    heading: str
    lines: tuple[str, ...]
    cells: tuple[Cell, ...]


def fit_inside(size_hw: tuple[int, int], box_hw: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same aspect ratio inside a box, at least 1 x 1 pixel."""
    scale = min(box_hw[0] / size_hw[0], box_hw[1] / size_hw[1])
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def resize_picture(picture_HWC: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize a picture for the eye: averaging when it shrinks, cubic when it grows."""
    if picture_HWC.shape[:2] == size_hw:
        return picture_HWC
    shrinks = size_hw[0] * size_hw[1] < picture_HWC.shape[0] * picture_HWC.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(picture_HWC, (size_hw[1], size_hw[0]), interpolation=method)


def fit_cell(picture_HWC: np.ndarray, width: int) -> np.ndarray:
    """The picture as wide as a cell of `width` pixels, or narrower where it is much taller than wide."""
    return resize_picture(picture_HWC, fit_inside(picture_HWC.shape[:2], (TALLEST * width, width)))


def stack(blocks: list[np.ndarray], gap: int = 6, min_width: int = 1) -> np.ndarray:
    """Blocks one below the other, left-aligned, padded with paper to the widest."""
    width = max(min_width, *(block.shape[1] for block in blocks))
    rows: list[np.ndarray] = []
    for index, block in enumerate(blocks):
        if index:
            rows.append(blank(gap, width))
        rows.append(cv2.copyMakeBorder(block, 0, 0, 0, width - block.shape[1], cv2.BORDER_CONSTANT, value=PAPER))
    return np.vstack(rows)


def side_by_side(blocks: list[np.ndarray], gap: int = GAP) -> np.ndarray:
    """Blocks beside each other, top-aligned, padded with paper to the tallest."""
    height = max(block.shape[0] for block in blocks)
    columns: list[np.ndarray] = []
    for index, block in enumerate(blocks):
        if index:
            columns.append(blank(height, gap))
        columns.append(cv2.copyMakeBorder(block, 0, height - block.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=PAPER))
    return np.hstack(columns)


def framed(picture_HWC: np.ndarray) -> np.ndarray:
    """A picture with a hairline around it, so that a white one does not run into the paper."""
    out = picture_HWC.copy()
    cv2.rectangle(out, (0, 0), (out.shape[1] - 1, out.shape[0] - 1), HAIRLINE, 1)
    return out


def cell_block(cell: Cell, width: int) -> np.ndarray:
    """A cell of `width` pixels: title and note in one line, picture, then legend or colour bar."""
    blocks = [framed(fit_cell(cell.picture_HWC, width))]
    if cell.title:
        blocks.insert(0, _title(cell.title, cell.note, width))
    if cell.legend:
        blocks.append(legend_block(cell.legend, width))
    if cell.bar is not None:
        blocks.append(bar_block(cell.bar, width))
    return stack(blocks, min_width=width)


def sheet(body_HWC: np.ndarray, title: str, subtitle: str = "") -> np.ndarray:
    """Put a body on paper: title above it, margins around it."""
    width = body_HWC.shape[1]
    head: list[np.ndarray] = []
    if title or subtitle:
        head = (
            [_title(title, "", width), text_block([(subtitle, False)], width)]
            if subtitle
            else [_title(title, "", width)]
        )
    page = stack([*head, body_HWC], gap=8)
    return cv2.copyMakeBorder(page, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_CONSTANT, value=PAPER)


def flow(cells: list[Cell], cell_width: int, columns: int) -> np.ndarray:
    """Cells in reading order, `columns` to a row."""
    columns = max(1, min(columns, len(cells)))
    blocks = [cell_block(cell, cell_width) for cell in cells]
    rows = [side_by_side(blocks[start : start + columns]) for start in range(0, len(blocks), columns)]
    return stack(rows, gap=GAP + 6)


def table(rows: list[Row], column_titles: list[str], cell_width: int, gutter: int) -> np.ndarray:
    """Rows of cells under common column titles, each with its heading and lines in a gutter on the left."""
    count = max(len(row.cells) for row in rows)
    titles = [_title(title, "", cell_width) for title in column_titles[:count]]
    blocks = [side_by_side([blank(titles[0].shape[0], gutter), *titles])] if titles else []
    for row in rows:
        notes = text_block([(row.heading, True), *((line, False) for line in row.lines)], gutter, BODY_PX)
        cells = [cell_block(cell, cell_width) for cell in row.cells]
        blocks.append(side_by_side([notes, *cells]))
    return stack(blocks, gap=GAP)


def _title(title: str, note: str, width: int) -> np.ndarray:
    canvas = blank(line_height(TITLE_PX), width)
    baseline = TITLE_PX + 4
    shown = shorten(title, width, TITLE_PX, bold=True)
    draw_text(canvas, shown, 0, baseline, capital_px=TITLE_PX, colour=INK, bold=True)
    if note:
        start = text_width(shown, TITLE_PX, bold=True) + 8
        short = shorten(note, max(1, width - start), SMALL_PX)
        if short != "..":
            draw_text(canvas, short, start, baseline, capital_px=SMALL_PX, colour=MUTED)
    return canvas
