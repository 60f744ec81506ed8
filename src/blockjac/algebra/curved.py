"""The product of a block's own derivative with two tangents: what curves a composition.

A block `E` whose arrays vary adds `sum_x dE[t_x] t_x` to a Laplacian, where `x` runs over the
directions. Of a term of `E` one factor at a time is replaced by its rates of change; the whole is
contracted as one network, so that deltas and lookups of all three sides meet, and so that the order
of contraction is chosen over all factors together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from blockjac.algebra.backend import backend
from blockjac.algebra.index_equations import Contradiction, IndexEquations
from blockjac.algebra.index_solution import solve
from blockjac.algebra.sums import summed
from blockjac.algebra.term_product import cast_term
from blockjac.algebra.tidy import tidy
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index
from blockjac.terms.term import Term

Kept = Literal["none", "one", "both"]
"""Which directions stay: none, and all are summed over; one for rates and tangents together; or
each on its own."""


def curved(block: Block, array: Any, rates: Block, tangents: Block, kept: Kept) -> Block:
    """`sum_x (d block / d array)[rates_x] tangents_x`, for each output of the block.

    Args:
        block: of which the factor with this array varies.
        array: the array.
        rates: of the array, by directions: a Block of `array.shape` by their axes.
        tangents: of the block's input, by the same directions.
        kept: which directions stay in the answer.

    Returns:
        A Block of the outputs, by the directions that stay: those of the tangents come first.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block
        >>> slopes, identity = jnp.array([1.0, 2.0]), Block.identity((2,))
        >>> bends = Block.diag(jnp.array([3.0, 4.0]))
        >>> curved(Block.diag(slopes), slopes, bends, identity, "none").dense()
        Array([3., 4.], dtype=float32)
    """
    directions = _directions(rates, tangents, kept)
    terms = [
        product
        for term in block.terms
        for number, factor in enumerate(term.factors)
        if factor.array is array
        for product in replaced(block, term, {number: rates}, tangents, kept)
    ]
    return summed(block.out_shape, directions, tangents.dtype, terms)


def replaced(
    block: Block,
    term: Term,
    rates: Mapping[int, Block],
    tangents: Block,
    kept: Kept = "none",
) -> list[Term]:
    """The product of a term, of which some factors are replaced by their rates, with tangents.

    Args:
        block: that the term belongs to.
        term: the term.
        rates: of the factors with these numbers, one at least; Blocks of their shapes by
            directions.
        tangents: of the block's input, by the same directions.
        kept: which directions stay in the answer; "both" for one factor alone.

    Returns:
        Terms of the block's outputs, by the directions that stay.
    """
    others = [factor for number, factor in enumerate(term.factors) if number not in rates]
    places = [term.factors[number] for number in rates]
    products = [
        _contracted(
            block,
            _Parts(term, others, [*zip(places, chosen, strict=True)], tangent),
            next(iter(rates.values())),
            tangents,
            kept,
        )
        for *chosen, tangent in itertools.product(
            *(own.terms for own in rates.values()), tangents.terms
        )
    ]
    return [product for product in products if product is not None]


class _Parts:
    """A term without some of its factors, a term of the rates of each of these, one of tangents."""

    def __init__(
        self,
        term: Term,
        others: Sequence[Factor],
        rates: Sequence[tuple[Factor, Term]],
        tangent: Term,
    ) -> None:
        self.term, self.others, self.tangent = term, others, tangent.relabelled()
        self.rates = [(factor, rate.relabelled()) for factor, rate in rates]


def _contracted(
    block: Block, parts: _Parts, rates: Block, tangents: Block, kept: Kept
) -> Term | None:
    """The network of one choice of terms as one term; None if it is zero."""
    backend().charge_contraction()
    dtype = tangents.dtype
    own = cast_term(Term(tuple(parts.others), parts.term.out, parts.term.wrt), dtype)
    tangent = cast_term(parts.tangent, dtype)
    changes = [(factor, cast_term(rate, dtype)) for factor, rate in parts.rates]
    directions = _directions(rates, tangents, kept)
    staying = {
        "none": (),
        "one": tangent.wrt,
        "both": (*tangent.wrt, *(index for _, rate in changes for index in rate.wrt)),
    }[kept]
    shape = () if kept == "both" else tangents.wrt_shape
    every = [rate for _, rate in changes]
    equations = IndexEquations(
        [*own.factors, *(factor for rate in (*every, tangent) for factor in rate.factors)],
        [*own.out, *staying],
        (*block.out_shape, *directions),
        [*parts.term.labels, *(label for rate in (*every, tangent) for label in rate.labels)],
        math.prod([parts.term.coefficient, tangent.coefficient, *(r.coefficient for r in every)]),
    )
    meetings = [*zip(own.wrt, tangent.out, block.wrt_shape, strict=True)]
    for factor, rate in changes:
        of_factor = [Index.of(label) for label in factor.labels]
        sizes = [label.size for label in factor.labels]
        meetings += zip(of_factor, rate.out, sizes, strict=True)
        meetings += zip(tangent.wrt[: len(shape)], rate.wrt[: len(shape)], shape, strict=True)
    try:
        solve(equations, meetings)
    except Contradiction:
        return None
    return tidy(equations.term(len(own.out)), block.out_shape, directions)


def _directions(rates: Block, tangents: Block, kept: Kept) -> tuple[int, ...]:
    """The shape of the directions that stay."""
    if kept == "none":
        return ()
    return tangents.wrt_shape if kept == "one" else (*tangents.wrt_shape, *rates.wrt_shape)


def paired(block: Block) -> Block:
    """`block[i, x] block[j, x]`, a Block of pairs of outputs by the same inputs.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block
        >>> paired(Block.from_dense(jnp.array([[1.0], [2.0]]), 1)).dense()[..., 0]
        Array([[1., 2.],
               [2., 4.]], dtype=float32)
    """
    terms: list[Term] = []
    shape = (*block.out_shape, *block.out_shape)
    for first in block.terms:
        for second in block.terms:
            backend().charge_contraction()
            other = second.relabelled()
            equations = IndexEquations(
                [*first.factors, *other.factors],
                [*first.out, *other.out, *first.wrt],
                (*shape, *block.wrt_shape),
                [*first.labels, *other.labels],
                first.coefficient * other.coefficient,
            )
            try:
                solve(equations, [*zip(first.wrt, other.wrt, block.wrt_shape, strict=True)])
            except Contradiction:
                continue
            term = tidy(equations.term(len(shape)), shape, block.wrt_shape)
            if term is not None:
                terms.append(term)
    return summed(shape, block.wrt_shape, block.dtype, terms)
