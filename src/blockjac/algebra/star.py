"""The contraction `star` and the sum of blocks: the two operations of the chain rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.algebra.at_once import at_once
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import unpaired
from blockjac.algebra.index_equations import Contradiction, IndexEquations
from blockjac.algebra.index_solution import solve
from blockjac.algebra.sums import summed
from blockjac.algebra.term_product import cast_term, star_terms, straight
from blockjac.algebra.tidy import tidy
from blockjac.algebra.two_blocks import over_batches, worked_out_once
from blockjac.base.arrays import as_array
from blockjac.errors import BlockShapeError
from blockjac.terms.block import Block
from blockjac.terms.term import Term


def star(left: Any, right: Any) -> Any:
    """The contraction of two blocks, or of a block and an array; see `blockjac.star`.

    Raises:
        BlockShapeError: if the shapes of the variable in between differ; names both.
    """
    if isinstance(left, Block) and isinstance(right, Block):
        if left.wrt_shape != right.out_shape:
            raise BlockShapeError(
                "star needs left.wrt_shape == right.out_shape, but left is a block of "
                f"{left.out_shape} with respect to {left.wrt_shape} and right one of "
                f"{right.out_shape} with respect to {right.wrt_shape}"
            )
        return over_batches(_star_blocks, left, right)
    if isinstance(left, Block):
        tangent = as_array(right)
        _check_array(tangent, left.wrt_shape, "wrt_shape", left, "right")
        return at_once(_pushed, left, tangent)
    if isinstance(right, Block):
        cotangent = as_array(left)
        _check_array(cotangent, right.out_shape, "out_shape", right, "left")
        return at_once(_pulled, right, cotangent)
    raise BlockShapeError(
        f"star contracts Blocks, but found {type(left).__name__} and {type(right).__name__}; "
        "for two dense Jacobians use blockjac.chain_rule(Dg, Df, var_shape)"
    )


def _pushed(block: Block, tangent: Any) -> Any:
    """The block times a tangent, over batches."""
    return over_batches(
        lambda left, array: _star_blocks(left, Block.from_dense(array, array.ndim)).dense(),
        block,
        tangent,
        len(block.wrt_shape),
    )


def _pulled(block: Block, cotangent: Any) -> Any:
    """A cotangent times the block, over batches."""
    return over_batches(
        lambda right, array: _star_blocks(Block.from_dense(array, 0), right).dense(),
        block,
        cotangent,
        len(block.out_shape),
    )


def star_along(left: Block, right: Block, pairs: Sequence[tuple[int, int]]) -> Block:
    """The entries of `left star right` at which pairs of an output and an input axis agree.

    Only these are contracted: entries off the diagonals are never computed.

    Args:
        left: a Block.
        right: a Block with `out_shape == left.wrt_shape`.
        pairs: output axes of the left block with input axes of the right one, of equal sizes; each
            axis at most once.

    Returns:
        A Block of `left.out_shape` with respect to the unpaired input axes.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block
        >>> A, B = jnp.ones((2, 3)), jnp.ones((3, 2))
        >>> star_along(Block.from_dense(A, 1), Block.from_dense(B, 1), [(0, 0)]).dense()
        Array([3., 3.], dtype=float32)
    """
    kept = tuple(right.wrt_shape[axis] for axis in unpaired(right.wrt_shape, pairs))
    terms: list[Term] = []
    dtype = _product_dtype([left, right])
    for left_term in (cast_term(term, dtype) for term in left.terms):
        for right_term in right.terms:
            term = star_terms(left_term, right_term.relabelled(), left, right, pairs)
            if term is not None:
                terms.append(term)
    return summed(left.out_shape, kept, dtype, terms)


def chain_along(blocks: Sequence[Block], pairs: Sequence[tuple[int, int]]) -> Block:
    """The same entries of `blocks[0] star blocks[1] star ...`, contracted as one network.

    The order of contraction is chosen over all blocks together, so that `A B B' A'` may begin with
    `B B'`, or with factors of the ends that share a label by way of the middle.

    Args:
        blocks: at least two blocks, the `out_shape` of each the `wrt_shape` of the one before.
        pairs: output axes of the first block with input axes of the last, as in `star_along`.

    Returns:
        A Block of `blocks[0].out_shape` with respect to the unpaired input axes of the last.
    """
    first, *rest = blocks
    if len(rest) == 1:
        return star_along(first, rest[0], pairs)
    dtype, kept = _product_dtype([first, *rest]), unpaired(rest[-1].wrt_shape, pairs)
    wrt_shape = tuple(rest[-1].wrt_shape[axis] for axis in kept)
    terms: list[Term] = []
    for chosen in itertools.product(*(block.terms for block in blocks)):
        backend().charge_contraction()
        chain = [cast_term(term, dtype).relabelled() for term in chosen]
        out, wrt = chain[0].out, chain[-1].wrt
        equations = IndexEquations(
            [factor for term in chain for factor in term.factors],
            [*out, *(wrt[axis] for axis in kept)],
            (*first.out_shape, *wrt_shape),
            [label for term in chain for label in term.labels],
            math.prod(term.coefficient for term in chain),
        )
        meetings = [
            meeting
            for left, right, block in zip(chain, chain[1:], rest, strict=False)
            for meeting in zip(left.wrt, right.out, block.out_shape, strict=True)
        ]
        tied = [(out[i], wrt[j], first.out_shape[i]) for i, j in pairs]
        try:
            solve(equations, [*meetings, *tied])
        except Contradiction:
            continue
        term = tidy(equations.term(len(out)), first.out_shape, wrt_shape)
        if term is not None:
            terms.append(term)
    return summed(first.out_shape, wrt_shape, dtype, terms)


def _check_array(array: Any, wanted: tuple[int, ...], which: str, block: Block, side: str) -> None:
    """Refuse an array that is neither of the wanted shape nor a batch of such arrays."""
    shape = tuple(array.shape)
    if shape not in (wanted, block.batch_shape + wanted):
        raise BlockShapeError(
            f"star of a block of {block.out_shape} with respect to {block.wrt_shape} and an array "
            f"needs an array of the block's {which} {wanted} on the {side}, but found one of shape "
            f"{shape}"
        )


def _star_blocks(left: Block, right: Block) -> Block:
    return worked_out_once(_contracted, left, right)


def _contracted(left: Block, right: Block) -> Block:
    """The contraction of each term of one block with each of the other, added up."""
    dtype = _product_dtype([left, right])
    terms: list[Term] = []
    for left_term in (cast_term(term, dtype) for term in left.terms):
        for right_term in right.terms:
            term = straight(left_term, right_term, left.wrt_shape)
            if term is None:
                term = star_terms(left_term, right_term.relabelled(), left, right)
            if term is not None:
                terms.append(term)
    return summed(left.out_shape, right.wrt_shape, dtype, terms)


def _product_dtype(blocks: Sequence[Block]) -> Any:
    """The dtype of a product: that of the last input, made complex if any block is."""
    dtype = blocks[-1].dtype
    is_complex = any(np.dtype(block.dtype).kind == "c" for block in blocks)
    return np.result_type(dtype, np.complex64) if is_complex else dtype
