"""Pictures of Blocks: a cell shows the largest entry in its part of the dense Jacobian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from blockjac.algebra.entries import Piece, places
from blockjac.blocks import Block
from blockjac.terms.block import arrays_of
from blockjac.terms.index import Label
from blockjac.terms.term import Term

SIDE = 48
"""The most cells down and across."""

MOST_PLACES = 8_000_000
"""A picture of a Block with more stored places than this is left out, and said to be."""

CODES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""A cell as a letter: the first has no entry, the others rise from the least to the largest."""

LEVELS = 31
"""Shades of each sign."""


@dataclass(frozen=True)
class Heat:
    """A picture.

    Attributes:
        rows: of the dense Jacobian: entries of the result.
        columns: entries of the variable.
        down: cells.
        across: cells.
        scale: the largest absolute value.
        cells: a letter for each cell, row by row, as in `CODES`.
    """

    rows: int
    columns: int
    down: int
    across: int
    scale: float
    cells: str


def heat(block: Block, side: int = SIDE) -> Heat | None:
    """The picture of a Block; its dense Jacobian is never written. None where it is too large.

    Args:
        block: with arrays of numbers; of one with shapes in their place there is none.
        side: the most cells down and across.
    """
    rows, columns = math.prod(block.out_shape), math.prod(block.wrt_shape)
    count = sum(math.prod(label.size for label in term.labels) for term in block.terms)
    is_computed = not any(isinstance(own, jax.ShapeDtypeStruct) for own in arrays_of(block))
    if count > MOST_PLACES or not rows or not columns or not is_computed:
        return None
    down, across = min(rows, side), min(columns, side)
    parts = [_entries(term, block) for term in block.terms]
    at = np.concatenate([own[0] for own in parts]) if parts else np.zeros(0, np.int64)
    numbers = np.concatenate([own[1] for own in parts]) if parts else np.zeros(0)
    if len(parts) > 1:  # terms that overlap add up
        at, inverse = np.unique(at, return_inverse=True)
        numbers = np.bincount(inverse, numbers, len(at))
    cell = (at // columns * down // rows) * across + at % columns * across // columns
    largest = np.full(down * across, -np.inf)
    least = np.full(down * across, np.inf)
    np.maximum.at(largest, cell, numbers)
    np.minimum.at(least, cell, numbers)
    is_empty = np.isinf(largest) & (largest < 0)
    shown = np.where(np.abs(least) > np.abs(largest), least, largest)
    shown = np.where(is_empty, 0.0, np.nan_to_num(shown))
    scale = float(np.abs(shown).max(initial=0.0))
    relative = shown / scale if scale else shown
    shade = np.sign(relative) * np.ceil(LEVELS * np.sqrt(np.abs(relative)))
    code = np.where(is_empty, 0, 1 + LEVELS + shade).astype(int)
    return Heat(rows, columns, down, across, scale, "".join(CODES[own] for own in code))


def _entries(term: Term, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """The positions of a term's entries in the flat dense Jacobian, and their values."""
    labels = list(term.labels)
    shape = tuple(label.size for label in labels)
    values = np.broadcast_to(np.asarray(_real(term.coefficient), float), shape)
    for factor in term.factors:
        values = values * _over(np.asarray(factor.array), factor.labels, labels)
    where = places(Piece(term, block, 0, 0))
    at = where.rows * math.prod(block.wrt_shape) + where.columns
    values = np.asarray(values, float).reshape(-1)
    return (at, values) if where.inside is None else (at[where.inside], values[where.inside])


def _real(number: Any) -> Any:
    """A coefficient as a real number."""
    return np.real(np.asarray(number))


def _over(array: np.ndarray, own: tuple[Label, ...], labels: list[Label]) -> np.ndarray:
    """An array over some labels as one that broadcasts over all."""
    order = sorted(range(len(own)), key=lambda axis: labels.index(own[axis]))
    shape = [label.size if label in own else 1 for label in labels]
    return np.real(array).transpose(order).reshape(shape)
