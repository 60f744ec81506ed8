"""What wrong entries in the right shape may be: each mistake is made in the exact ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from blockjac.checking import deltas
from blockjac.checking.compare import equal, same
from blockjac.checking.report import Mistake
from blockjac.checking.shapes import MAX_RANK, delta_hint, order_mistake
from blockjac.checking.structure import Seen, of_factors, of_terms, scaled, transposed
from blockjac.checking.sums import dot_for_outer


def recognized(seen: Seen) -> Mistake | None:
    """The first mistake that explains every wrong entry, the simplest first; else where they lie.

    Args:
        seen: given and exact entries, which differ.
    """
    for recognize in MISTAKES:
        mistake = recognize(seen)
        if mistake is not None:
            return mistake
    return None


def _not_finite(seen: Seen) -> Mistake | None:
    """Entries are nan or infinite where the exact ones are finite."""
    bad = ~np.isfinite(seen.given) & np.isfinite(seen.exact)
    if not bad.any():
        return None
    return Mistake(
        "not finite", f"{int(bad.sum()):,} entries are nan or infinite and should not be"
    )


def _conjugate(seen: Seen) -> Mistake | None:
    if np.iscomplexobj(seen.exact) and seen.agrees(seen.exact.conj()):
        return Mistake("conjugate", "every entry is the complex conjugate of the exact one")
    return None


def _other_order(seen: Seen) -> Mistake | None:
    """The entries agree with those of the exact array in another order of its axes."""
    exact, out_ndim = seen.exact, len(seen.block.out_shape)
    if exact.ndim > MAX_RANK:
        return None
    for order in itertools.permutations(range(exact.ndim)):
        if seen.agrees(np.transpose(exact, order)):
            return order_mistake(order, out_ndim)
    return None


def _missing_delta(seen: Seen) -> Mistake | None:
    """Entries were given as if a delta were not there."""
    exact, out_ndim = seen.exact, len(seen.block.out_shape)
    axis_pairs = deltas.pairs(exact.shape, out_ndim)
    delta_pairs = [pair for pair in axis_pairs if deltas.is_delta(exact, pair)]
    for chosen in deltas.subsets(delta_pairs):
        for kept_side in (0, 1):
            values = deltas.compressed(exact, chosen, kept_side)
            if seen.agrees(deltas.spread(values, chosen, kept_side, exact.shape)):
                return Mistake("missing delta", delta_hint(chosen, out_ndim))
    error = seen.given - exact
    for pair in (pair for pair in axis_pairs if exact.shape[pair[0]] > 2):
        for varying_side in (0, 1):
            if seen.agrees(exact + deltas.off_diagonal(error, pair, varying_side)):
                return Mistake("missing delta", delta_hint((pair,), out_ndim))
    return None


def _extra_delta(seen: Seen) -> Mistake | None:
    """Entries off a diagonal were taken as 0."""
    out_ndim = len(seen.block.out_shape)
    for pair in deltas.pairs(seen.exact.shape, out_ndim):
        diagonal = deltas.compressed(seen.exact, [pair], 0)
        if seen.agrees(deltas.expanded(diagonal, [pair], 0, seen.exact.shape)):
            hint = (
                f"only the entries where axis {pair[0]} of the output equals axis "
                f"{pair[1] - out_ndim} of the variable were given; the others are not 0"
            )
            return Mistake("extra delta", hint)
    return None


def _dot_product(seen: Seen) -> Mistake | None:
    """The derivative of a dot product of rows misses its second term."""
    error = seen.given - seen.exact
    for pair in deltas.pairs(error.shape, len(seen.block.out_shape)):
        outer = deltas.outer_for_dot(error, pair, seen.limit)
        if outer is None:
            continue
        varied = error.shape[pair[0]] > 2 and np.ptp(error) > seen.limit
        symmetric = same(outer, np.swapaxes(outer, *pair), seen.limit)
        if (varied and symmetric) or deltas.is_delta(seen.exact + outer, pair, seen.limit):
            hint = (
                "the product p[i] p[j] was given as one number, sum_k p[k] p[k], because p @ p.T "
                "of a one-dimensional p is that; write np.outer(p, p), or p[:, None] * p[None, :]"
            )
            return Mistake("outer product is a dot product", hint)
    return None


def _number_for_outer(seen: Seen) -> Mistake | None:
    """One number in place of an outer product."""
    return dot_for_outer(seen.given, seen.exact, seen.limit)


def _shifted(seen: Seen) -> Mistake | None:
    """Entries were given one position off along an axis."""
    exact = seen.exact
    for axis, size in enumerate(exact.shape):
        if size < 2:
            continue
        named = _axis(axis, len(seen.block.out_shape))
        for step in (1, -1):
            turned = np.roll(exact, step, axis)
            pushed = np.moveaxis(turned.copy(), axis, 0)
            pushed[0 if step == 1 else -1] = 0
            if seen.agrees(turned) or seen.agrees(np.moveaxis(pushed, 0, axis)):
                hint = (
                    f"the entries lie {'after' if step == 1 else 'before'} their places on {named}"
                )
                return Mistake("shifted by one", hint)
        if seen.agrees(np.flip(exact, axis)):
            return Mistake("reversed", f"the entries run backwards on {named}")
    return _reversed_together(seen)


def _reversed_together(seen: Seen) -> Mistake | None:
    """Entries run backwards along several axes, as a filter does that was turned around."""
    exact, out_ndim = seen.exact, len(seen.block.out_shape)
    for count in range(2, exact.ndim + 1) if exact.ndim <= MAX_RANK else ():
        for axes in itertools.combinations(range(exact.ndim), count):
            if seen.agrees(np.flip(exact, axes)):
                named = " and ".join(_axis(axis, out_ndim) for axis in axes)
                return Mistake("reversed", f"the entries run backwards on {named}")
    return None


def _where(seen: Seen) -> Mistake | None:
    """Where all wrong entries lie, if they lie together."""
    out_shape, wrt_shape = seen.block.out_shape, seen.block.wrt_shape
    out_ndim = len(out_shape)
    wrong = ~equal(seen.given, seen.exact, seen.limit)
    indices = np.argwhere(wrong)
    if len(indices) == 1 and wrong.size > 1:
        return Mistake("one entry", "all the others are right")
    if out_shape == wrt_shape and wrong.size > 1:
        matrix = wrong.reshape(int(np.sqrt(wrong.size)), -1)
        diagonal = np.eye(len(matrix), dtype=bool)
        if not matrix[~diagonal].any():
            return Mistake("diagonal", "every entry off the diagonal is right")
        if not matrix[diagonal].any():
            return Mistake("off the diagonal", "the diagonal is right")
    rows, columns = (
        np.unique(part, axis=0) for part in (indices[:, :out_ndim], indices[:, out_ndim:])
    )
    if len(rows) == 1 and np.prod(out_shape) > 1:
        return Mistake("one row", f"only the derivatives of output {rows[0].tolist()} are wrong")
    if len(columns) == 1 and np.prod(wrt_shape) > 1:
        return Mistake("one column", f"only those by variable {columns[0].tolist()} are wrong")
    return None


def _axis(axis: int, out_ndim: int) -> str:
    if axis < out_ndim:
        return f"axis {axis} of the output"
    return f"axis {axis - out_ndim} of the variable"


MISTAKES: tuple[Callable[[Seen], Mistake | None], ...] = (
    _not_finite,
    scaled,
    transposed,
    _conjugate,
    _other_order,
    _missing_delta,
    _extra_delta,
    _dot_product,
    _number_for_outer,
    of_terms,
    of_factors,
    _shifted,
    _where,
)
"""Every way to recognize a mistake, the simplest first."""

PLACES = frozenset({"one entry", "one row", "one column", "diagonal", "off the diagonal"})
"""What only says where wrong entries lie."""

MISTAKES_OF_PRODUCTS = (scaled, transposed, of_terms, of_factors)
"""Those that show in random products too."""
