"""What a notebook shows of a block: its shapes, its structure, what it stores, and where it is."""

from __future__ import annotations

import math
from html import escape
from itertools import accumulate

import numpy as np

from blockjac.base import html
from blockjac.devices import in_bytes
from blockjac.errors import BlockjacError
from blockjac.sparsity.pattern import pattern
from blockjac.sparsity.spy import cells_of
from blockjac.terms.block import Block

CELLS = 64
"""The most cells per side of a picture."""

MOST_PLACES = 1_000_000
"""Of a structure with more entries no picture is drawn."""

WIDEST = 160
"""A structure of more characters than this is cut."""


def notebook(grid: list[list[Block]], name: str) -> str:
    """A Block, or the Blocks of a matrix, as HTML.

    Args:
        grid: of blocks, one for a single Block.
        name: of the class.
    """
    blocks = [block for row in grid for block in row]
    rows = sum(math.prod(row[0].out_shape) for row in grid)
    columns = sum(math.prod(block.wrt_shape) for block in grid[0])
    itemsize = np.dtype(blocks[0].dtype).itemsize
    stored = sum(block.nbytes for block in blocks)
    facts = [("rows × columns", f"{rows:,} × {columns:,}")]
    if len(blocks) == 1:
        (block,) = blocks
        facts += [
            ("output", str(block.out_shape)),
            ("input", str(block.wrt_shape)),
            ("structure", _cut(block.structure)),
        ]
    else:
        facts += [
            (f"block {number + 1}, {position + 1}", _cut(block.structure))
            for number, row in enumerate(grid[:8])
            for position, block in enumerate(row[:8])
        ]
    facts += [
        ("stored", f"{in_bytes(stored)}; dense {in_bytes(rows * columns * itemsize)}"),
        ("dtype", str(blocks[0].dtype)),
    ]
    return html.card(name, facts, _picture(grid))


def _cut(structure: str) -> str:
    """A structure, cut where it is too long for a cell."""
    return structure if len(structure) <= WIDEST else structure[: WIDEST - 1] + "…"


def _picture(grid: list[list[Block]]) -> str:
    """Where the entries are, as SVG; a sentence where that is not known or too large."""
    try:
        count = sum(block.nnz for row in grid for block in row)
        if count > MOST_PLACES:
            return f"<div>{count:,} entries: too many for a picture</div>"
        where = pattern(grid)
    except BlockjacError as error:
        return f"<div>no picture: {escape(str(error))}</div>"
    down, across, marked = cells_of(where, CELLS)
    size = 200 / max(down, across, 1)
    box = f"width='{size:.4g}' height='{size:.4g}'"
    squares = "".join(
        f"<rect x='{column * size:.4g}' y='{row * size:.4g}' {box}/>" for row, column in marked
    )
    width, height = across * size, down * size
    heights = accumulate(math.prod(row[0].out_shape) for row in grid[:-1])
    widths = accumulate(math.prod(block.wrt_shape) for block in grid[0][:-1])
    total_rows, total_columns = (max(own, 1) for own in where.shape)
    lines = "".join(
        f"<path d='M0 {own / total_rows * height:.4g}H{width:.4g}'/>" for own in heights
    ) + "".join(f"<path d='M{own / total_columns * width:.4g} 0V{height:.4g}'/>" for own in widths)
    label = f"{where.nnz:,} of {total_rows * total_columns:,} entries"
    return (
        f"<figure style='margin:0'><svg role='img' aria-label='{label}' width='{width:.4g}' "
        f"height='{height:.4g}' style='border:1px solid #8888'>"
        f"<g fill='#3b6fb6'>{squares}</g><g stroke='#888' fill='none'>{lines}</g></svg>"
        f"<figcaption style='opacity:.7;font-size:.85em'>{label}</figcaption></figure>"
    )
