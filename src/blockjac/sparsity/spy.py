"""Pictures of a pattern: dots where a Jacobian can have entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.base.figures import new_figure

BRAILLE = 0x2800
"""The empty braille character, a cell of 4 x 2 dots; each dot sets one bit."""

BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])

WIDTH, HEIGHT = 60, 24
"""The largest picture in a terminal, in characters."""

PIXELS = 250
"""The most cells per side of a picture; a cell of several positions is shaded by their number."""

Leaves = tuple[Sequence[tuple[str, int]], Sequence[tuple[str, int]]]
"""Names and sizes of the outputs' leaves and of the inputs'."""


def in_braille(pattern: Any, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """The pattern as lines of braille dots, 4 x 2 per character; large patterns are scaled down.

    Args:
        pattern: the positions.
        width: the largest number of characters per line.
        height: the largest number of lines.
    """
    rows, columns = pattern.shape
    if not rows or not columns:
        return []
    down, across = _cells(pattern.shape, 4 * height, 2 * width)
    lines, cells = -(-down // 4), -(-across // 2)
    dots = np.zeros((4 * lines, 2 * cells), bool)
    dots[_places(pattern, down, across)] = True
    bits = dots.reshape(lines, 4, cells, 2).transpose(0, 2, 1, 3) * BITS
    codes = BRAILLE + bits.sum(axis=(2, 3))
    return ["".join(map(chr, line)) for line in codes]


def _cells(shape: tuple[int, int], most_down: int, most_across: int) -> tuple[int, int]:
    """The numbers of cells down and across; one per row and column if these suffice."""
    scale = max(1.0, shape[0] / most_down, shape[1] / most_across)
    down, across = (max(1, math.ceil(size / scale)) for size in shape)
    return min(down, most_down), min(across, most_across)


def _places(pattern: Any, down: int, across: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells of the entries."""
    rows, columns = (max(size, 1) for size in pattern.shape)
    return _scaled(pattern.rows, rows, down), _scaled(pattern.columns, columns, across)


def cells_of(pattern: Any, most: int) -> tuple[int, int, list[tuple[int, int]]]:
    """The cells of a picture: how many down and across, and those with entries.

    Args:
        pattern: the positions.
        most: cells per side.
    """
    down, across = _cells(pattern.shape, most, most)
    rows, columns = _places(pattern, down, across)
    return down, across, sorted(set(zip(rows.tolist(), columns.tolist(), strict=True)))


def _scaled(positions: np.ndarray, size: int, cells: int) -> np.ndarray:
    """The cells of positions on an axis."""
    if cells >= size:
        return positions
    return np.minimum((positions * (cells / size)).astype(np.int64), cells - 1)


def new_axes(shape: tuple[int, int]) -> Any:
    """The axes of a new figure for a pattern of this shape.

    Raises:
        MissingExtraError: without matplotlib.
    """
    rows, columns = (max(size, 1) for size in shape)
    longer = 5.0 / max(rows, columns)
    width, height = (max(1.6, size * longer) + 1.2 for size in (columns, rows))
    figure = new_figure(width, height, "spy()", "print(block.pattern())")
    return figure.add_subplot()


def draw(pattern: Any, ax: Any) -> None:
    """Draw a pattern with matplotlib: rows downwards, columns to the right.

    Args:
        pattern: the positions.
        ax: the matplotlib axes to draw into.
    """
    rows, columns = pattern.shape
    down, across = _cells(pattern.shape, PIXELS, PIXELS)
    cells = np.zeros((down, across))
    np.add.at(cells, _places(pattern, down, across), 1.0)
    if (down, across) != (max(rows, 1), max(columns, 1)):
        # A cell with few entries stays visible among cells with many.
        cells = np.where(cells > 0, 0.35 + 0.65 * cells / cells.max(initial=1.0), 0.0)
    extent = (-0.5, max(columns, 1) - 0.5, max(rows, 1) - 0.5, -0.5)
    ax.imshow(cells, cmap="Blues", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("input")
    ax.set_ylabel("output")
    share = pattern.nnz / max(rows * columns, 1)
    ax.set_title(f"{pattern.nnz:,} entries in {rows:,} × {columns:,} ({share:.2%})", fontsize=10)


def mark(leaves: Sequence[tuple[str, int]], axis: Any) -> None:
    """Draw lines between the leaves of one side of a picture, and name them there.

    Args:
        leaves: names and sizes, in order; fewer than two are not marked.
        axis: the matplotlib axis along which they follow one another.
    """
    if len(leaves) < 2:
        return
    ends = np.cumsum([size for _, size in leaves])
    line = axis.axes.axhline if axis.axis_name == "y" else axis.axes.axvline
    for end in ends[:-1]:
        line(end - 0.5, color="#888888", linewidth=0.8)
    middles = [end - (size + 1) / 2 for end, (_, size) in zip(ends, leaves, strict=True)]
    axis.set_ticks(middles, [name for name, _ in leaves])
