"""A derivative of too many entries to look at each: compared by random products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.checking import compare, deltas
from blockjac.checking.compare import Tolerance, differences, distance, equal, largest
from blockjac.checking.report import Difference, LeafReport, Mistake
from blockjac.checking.shapes import TRANSPOSED, delta_hint, plain_shape
from blockjac.checking.structure import Seen
from blockjac.checking.values import MISTAKES_OF_PRODUCTS
from blockjac.terms.block import delta_pairs


def by_products(given: Any, exact: Block, report: LeafReport, tolerance: Tolerance) -> LeafReport:
    """Compare random products, and the rows in which they differ.

    Args:
        given: an array or a Block.
        exact: the exact block.
        report: what is known of the leaf.
        tolerance: of equal entries and products.
    """
    report = replace(report, products=compare.PRODUCTS)
    mistakes: list[Mistake] = []
    if _shapes(given, exact) != (exact.out_shape, exact.wrt_shape):
        mistake, given = _mended(given, exact)
        if given is None:
            return replace(report, mistakes=(mistake,), products=0, compared=False)
        mistakes.append(mistake)

    def see(block: Any) -> np.ndarray:
        return compare.products(block, exact)

    products, wanted = see(given), see(exact)
    limit = tolerance.limit(given.dtype, exact.dtype, largest(wanted))
    wrong = ~equal(products, wanted, limit).all(axis=0)
    if not wrong.any():
        return replace(report, mistakes=tuple(mistakes))
    seen = Seen(products, wanted, exact, see, limit)
    guessed = (recognize(seen) for recognize in MISTAKES_OF_PRODUCTS)
    mistakes += [mistake for mistake in guessed if mistake is not None][:1]
    rows = np.flatnonzero(wrong)[: compare.SHOWN]
    shown: list[Difference] = []
    largest_distance = 0.0
    for flat_index, given_row, exact_row in zip(
        rows, compare.rows(given, exact, rows), compare.rows(exact, exact, rows), strict=True
    ):
        row_limit = tolerance.limit(given.dtype, exact.dtype, largest(exact_row))
        wrong_entries = ~equal(given_row, exact_row, row_limit)
        largest_distance = max(largest_distance, distance(given_row, exact_row, wrong_entries))
        output = compare.multi_index(flat_index, exact.out_shape)
        shown += [
            replace(entry, output=output)
            for entry in differences(given_row, exact_row, wrong_entries, 0, report.leaf)[:1]
        ]
    return replace(
        report,
        differences=tuple(shown),
        count=int(wrong.sum()),
        largest=largest_distance,
        mistakes=tuple(mistakes),
    )


def _shapes(given: Any, exact: Block) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of output and variable; an array is taken to have the exact number of axes."""
    if isinstance(given, Block):
        return given.out_shape, given.wrt_shape
    out_ndim = len(exact.out_shape)
    return tuple(given.shape[:out_ndim]), tuple(given.shape[out_ndim:])


def _mended(given: Any, exact: Block) -> tuple[Mistake, Any]:
    """The mistake behind a wrong shape, and what was given in the exact shape, None if unknown."""
    out_ndim, wrt_ndim = len(exact.out_shape), len(exact.wrt_shape)
    if isinstance(given, Block):
        if (given.wrt_shape, given.out_shape) == (exact.out_shape, exact.wrt_shape):
            return Mistake("transposed", TRANSPOSED), given.T
        shape = given.shape
    else:
        shape = tuple(given.shape)
        if shape == exact.wrt_shape + exact.out_shape:
            order = (*range(wrt_ndim, len(shape)), *range(wrt_ndim))
            return Mistake("transposed", TRANSPOSED), np.transpose(np.asarray(given), order)
        pairs = [(i, out_ndim + j) for i, j in delta_pairs(exact)]
        for chosen in deltas.subsets(pairs):
            block = _with_deltas(given, exact, chosen)
            if block is not None:
                return Mistake("missing delta", delta_hint(chosen, out_ndim)), block
    return plain_shape(shape, exact.out_shape, exact.wrt_shape), None


def _with_deltas(given: Any, exact: Block, chosen: tuple[deltas.Pair, ...]) -> Block | None:
    """The block of an array with one axis in place of each pair; None if its shape is another."""
    labels = [Label(size) for size in exact.shape]
    for i, j in chosen:
        labels[j] = labels[i]
    kept_labels = tuple(dict.fromkeys(labels))
    if tuple(label.size for label in kept_labels) != tuple(given.shape):
        return None
    indices = tuple(map(Index.of, labels))
    rank = len(exact.out_shape)
    term = Term((Factor(jnp.asarray(given), kept_labels),), indices[:rank], indices[rank:])
    return Block(exact.out_shape, exact.wrt_shape, given.dtype, [term])
