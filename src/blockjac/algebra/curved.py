"""The product of a block's own derivative with two tangents: what curves a composition.

A block `E` whose arrays vary adds `sum_x dE[t_x] t_x` to a Laplacian, where `x` runs over the
directions. Of a term of `E` one factor at a time is replaced by its rates of change; the whole is
contracted as one network, so that deltas and lookups of all three sides meet, and so that the order
of contraction is chosen over all factors together.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    terms: list[Term] = []
    for term in block.terms:
        for number, factor in enumerate(term.factors):
            if factor.array is not array:
                continue
            others = (*term.factors[:number], *term.factors[number + 1 :])
            for rate in rates.terms:
                for tangent in tangents.terms:
                    parts = _Parts(term, factor, others, rate, tangent)
                    product = _contracted(block, parts, rates, tangents, kept)
                    if product is not None:
                        terms.append(product)
    return summed(block.out_shape, directions, tangents.dtype, terms)


class _Parts:
    """A term without one of its factors, and a term each of that factor's rates and of tangents."""

    def __init__(
        self,
        term: Term,
        factor: Factor,
        others: Sequence[Factor],
        rate: Term,
        tangent: Term,
    ) -> None:
        self.term, self.factor, self.others = term, factor, others
        self.rate, self.tangent = rate.relabelled(), tangent.relabelled()


def _contracted(
    block: Block, parts: _Parts, rates: Block, tangents: Block, kept: Kept
) -> Term | None:
    """The network of one choice of terms as one term; None if it is zero."""
    backend().charge_contraction()
    dtype = tangents.dtype
    own = cast_term(Term(tuple(parts.others), parts.term.out, parts.term.wrt), dtype)
    rate, tangent = cast_term(parts.rate, dtype), cast_term(parts.tangent, dtype)
    directions = _directions(rates, tangents, kept)
    staying = {"none": (), "one": tangent.wrt, "both": (*tangent.wrt, *rate.wrt)}[kept]
    meeting = () if kept == "both" else zip(tangent.wrt, rate.wrt, tangents.wrt_shape, strict=True)
    equations = IndexEquations(
        [*own.factors, *rate.factors, *tangent.factors],
        [*own.out, *staying],
        (*block.out_shape, *directions),
        [*parts.term.labels, *rate.labels, *tangent.labels],
        parts.term.coefficient * rate.coefficient * tangent.coefficient,
    )
    of_factor = [Index.of(label) for label in parts.factor.labels]
    try:
        solve(
            equations,
            [
                *zip(own.wrt, tangent.out, block.wrt_shape, strict=True),
                *zip(of_factor, rate.out, rates.out_shape, strict=True),
                *meeting,
            ],
        )
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
