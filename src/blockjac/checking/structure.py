"""Mistakes that the structure of the exact Block suggests: terms, factors and deltas of its own.

They are seen through a function from Blocks to arrays: their entries, or their random products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.checking.compare import same
from blockjac.checking.report import Mistake
from blockjac.checking.shapes import TRANSPOSED, delta_hint
from blockjac.terms.block import rebuilt


@dataclass(frozen=True)
class Seen:
    """The given and the exact derivative, by their entries or by random products.

    Attributes:
        given: entries or products of what was given.
        exact: those of the exact block.
        block: the exact block.
        see: the entries or products of another block of its shapes.
        limit: how far equal numbers may differ.
    """

    given: np.ndarray
    exact: np.ndarray
    block: Block
    see: Callable[[Block], np.ndarray]
    limit: float

    def agrees(self, variant: np.ndarray) -> bool:
        """Whether a variant of the exact derivative is what was given."""
        return same(self.given, variant, self.limit)


def scaled(seen: Seen) -> Mistake | None:
    """Whether all was multiplied by one number."""
    factor = proportion(seen.given, seen.exact, seen.limit)
    if factor is None:
        return None
    if factor == 0:
        hint = "every entry that was given is 0, and not every one should be"
        return Mistake("all zero", hint, rank=25)
    if abs(factor + 1) < 1e-6:
        return Mistake("sign", "every entry has the other sign; multiply by -1", rank=1)
    number = None if isinstance(factor, complex) else float(factor)
    if seen.exact.size == 1 and not _is_simple(number):
        return None  # any two numbers have some quotient
    return Mistake("constant factor", _factor_hint(factor, seen.block), number, rank=2)


def _is_simple(factor: float | None) -> bool:
    """Whether a factor, or one over it, is a whole number of moderate size, as it is forgotten."""
    if factor is None:
        return False
    return any(
        abs(number - round(number)) <= 1e-5 * abs(number) and abs(number) <= MOST_FORGOTTEN
        for number in (factor, 1 / factor)
    )


MOST_FORGOTTEN = 10_000
"""Up to this number a factor between two single numbers is taken for a mistake's."""


def _factor_hint(factor: complex, block: Block) -> str:
    """What to do about a constant factor, which is often the size of an axis."""
    hint = f"every entry is {factor:.6g} times the exact one; divide by {factor:.6g}"
    sizes = {*block.shape, _entries(block.out_shape), _entries(block.wrt_shape)} - {1}
    for size in sorted(sizes):
        if abs(factor - size) < 1e-6 * size:
            return f"{hint}, the size of an axis: is a mean taken, and not a sum?"
        if abs(factor * size - 1) < 1e-6:
            return f"{hint}, one over the size of an axis: is a sum taken, and not a mean?"
    return hint


def transposed(seen: Seen) -> Mistake | None:
    """Whether outputs and variables were exchanged, where they have one shape."""
    if seen.block.out_shape == seen.block.wrt_shape and seen.agrees(seen.see(seen.block.T)):
        return Mistake("transposed", TRANSPOSED)
    return None


def of_terms(seen: Seen) -> Mistake | None:
    """Whether one summand of several was left out, or multiplied by a number."""
    terms = seen.block.terms if len(seen.block.terms) > 1 else ()
    error = seen.given - seen.exact
    for term in terms:
        alone = _block_of(seen.block, [term])
        factor = proportion(error, seen.see(alone), seen.limit)
        if factor is None:
            continue
        called = f"the term {alone.structure} of {seen.block.structure}"
        if abs(factor + 1) < 1e-6:
            return Mistake("missing term", f"{called} was left out; add it")
        if abs(factor + 2) < 1e-6:
            return Mistake("sign of a term", f"{called} has the other sign")
        hint = f"{called} was taken {1 + factor:.6g} times; it counts once"
        return Mistake("constant factor of a term", hint)
    return _of_the_identity(seen, error)


def _of_the_identity(seen: Seen, error: np.ndarray) -> Mistake | None:
    """Whether an identity was left out that no term shows, because a dense term contains it."""
    block = seen.block
    if block.out_shape != block.wrt_shape or _entries(block.out_shape) == 1:
        return None
    identity = seen.see(Block.identity(block.out_shape, block.dtype))
    if not same(error, -identity, seen.limit):
        return None
    return Mistake("missing term", "the identity, of x in x + f(x), was left out; add it")


def of_factors(seen: Seen) -> Mistake | None:
    """Whether a matrix inside was transposed, or left out, or a delta replaced by ones."""
    for mistake, variant in _variants(seen.block):
        if seen.agrees(seen.see(variant)):
            return mistake
    return None


def _variants(block: Block) -> Iterator[tuple[Mistake, Block]]:
    """The block with one mistake each: a factor transposed, left out, or taken twice."""
    for position, term in enumerate(block.terms):
        before, after = block.terms[:position], block.terms[position + 1 :]
        for changed, factor in _with_a_factor_transposed(term):
            hint = f"{_called(factor)} in {block.structure} was taken transposed; use its .T there"
            yield Mistake("factor transposed", hint), _block_of(block, [*before, changed, *after])
        for factor in term.factors:
            factors = tuple(candidate for candidate in term.factors if candidate is not factor)
            changed = replace(term, factors=factors)
            hint = f"{_called(factor)} in {block.structure} was left out; multiply by it"
            yield Mistake("missing factor", hint), _block_of(block, [*before, changed, *after])
    rank = len(block.out_shape)
    for i, size in enumerate(block.out_shape):
        for j, wrt_size in enumerate(block.wrt_shape):
            if size != wrt_size or not any(term.has_delta(i, j, size) for term in block.terms):
                continue
            mistake = Mistake("missing delta", delta_hint(((i, rank + j),), rank))
            for side in ("out", "wrt"):
                yield (
                    mistake,
                    _block_of(block, [_without_delta(term, i, j, side) for term in block.terms]),
                )


def _with_a_factor_transposed(term: Term) -> Iterator[tuple[Term, Factor]]:
    """The term with two axes of one factor swapped, and that factor."""
    for position, factor in enumerate(term.factors):
        for first_axis, second_axis in combinations(range(len(factor.labels)), 2):
            labels = list(factor.labels)
            labels[first_axis], labels[second_axis] = labels[second_axis], labels[first_axis]
            if labels[first_axis].size == labels[second_axis].size:
                turned = Factor(factor.array, tuple(labels), factor.name)
                factors = (*term.factors[:position], turned, *term.factors[position + 1 :])
                yield replace(term, factors=factors), factor


def _without_delta(term: Term, i: int, j: int, side: str) -> Term:
    """The term with a new label on one of two axes that shared one."""
    label = Index.of(Label(term.out[i].strides[0][0].size)) if term.out[i].strides else None
    if label is None or not term.has_delta(i, j, label.labels[0].size):
        return term
    axis = i if side == "out" else j
    indices = list(getattr(term, side))
    indices[axis] = label
    return replace(term, **{side: tuple(indices)})


def proportion(given: np.ndarray, exact: np.ndarray, limit: float) -> complex | None:
    """The number by which the exact values were multiplied in the given ones; None if none fits.

    Args:
        given: finite where `exact` is.
        exact: values, not all 0.
        limit: how far equal numbers may differ.
    """
    finite = np.isfinite(exact) & np.isfinite(given)
    given_values, exact_values = given[finite], exact[finite]
    square = np.vdot(exact_values, exact_values)
    if not square > 0:
        return None
    factor = (np.vdot(exact_values, given_values) / square).item()
    if abs(factor) * np.abs(exact_values).max() <= limit:
        factor = 0.0
    with np.errstate(invalid="ignore"):
        return factor if same(given, factor * exact, limit) else None


def _called(factor: Factor) -> str:
    return factor.name or f"the factor of shape {tuple(factor.array.shape)}"


def _block_of(like: Block, terms: Sequence[Term]) -> Block:
    return rebuilt(like.out_shape, like.wrt_shape, like.dtype, terms)


def _entries(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=int))
