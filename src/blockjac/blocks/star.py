"""The contraction `star` and the sum of blocks: the two operations of the chain rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import factor as arrays
from blockjac.blocks.block import Block, Term, as_array, rebuilt, tidy
from blockjac.blocks.dense import Axis, as_dense_axes, materialise
from blockjac.blocks.factor import Factor
from blockjac.blocks.index import Index, Label
from blockjac.blocks.network import Contradiction, Network
from blockjac.errors import BlockShapeError

MAX_TERMS = 16
"""A block of more terms than this is merged into one structure that holds them all."""


def star(left: Any, right: Any) -> Any:
    """The standard contraction: `(left star right)[i, j] = sum_k left[i, k] right[k, j]`.

    Sums over *all* axes of the variable in between, so that the chain rule reads `D(h o f) = D h star D f`.

    Args:
        left: a Block (or BlockMatrix), or an array of shape `right.out_shape`.
        right: a Block (or BlockMatrix), or an array of shape `left.wrt_shape`.

    Returns:
        A Block of shape `left.out_shape + right.wrt_shape`; an array where one argument is one.

    Raises:
        BlockShapeError: if the variable in between differs; both shapes are named.

    Source:
        The chain rule for block Jacobians on products of tensor spaces.

    Example:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block, star
        >>> rotate = Block.from_dense(jnp.array([[0.0, 1.0], [-1.0, 0.0]]), out_ndim=1)
        >>> star(rotate, rotate).dense()
        Array([[-1.,  0.],
               [ 0., -1.]], dtype=float32)
    """
    from blockjac.blocks.matrix import BlockMatrix

    if isinstance(left, BlockMatrix) or isinstance(right, BlockMatrix):
        return BlockMatrix.contract(left, right)
    if isinstance(left, Block) and isinstance(right, Block):
        if left.wrt_shape != right.out_shape:
            raise BlockShapeError(
                f"star needs left.wrt_shape == right.out_shape, but left is a block of {left.out_shape} with respect to "
                f"{left.wrt_shape} and right one of {right.out_shape} with respect to {right.wrt_shape}"
            )
        return _batched(_star_blocks, left, right)
    if isinstance(left, Block):
        tangent = as_array(right)
        _check_array(tangent, left.wrt_shape, "wrt_shape", left, "right")
        return _batched(
            lambda block, array: _star_blocks(block, Block.from_dense(array, array.ndim)).dense(),
            left,
            tangent,
            len(left.wrt_shape),
        )
    if isinstance(right, Block):
        cotangent = as_array(left)
        _check_array(cotangent, right.out_shape, "out_shape", right, "left")
        return _batched(
            lambda block, array: _star_blocks(Block.from_dense(array, 0), block).dense(),
            right,
            cotangent,
            len(right.out_shape),
        )
    raise BlockShapeError(
        f"star contracts Blocks, but found {type(left).__name__} and {type(right).__name__}; "
        "for two dense Jacobians use blockjac.chain_rule(Dg, Df, var_shape)"
    )


def _check_array(array: Any, wanted: tuple[int, ...], which: str, block: Block, side: str) -> None:
    shape = tuple(array.shape)
    if shape not in (wanted, block.batch_shape + wanted):
        raise BlockShapeError(
            f"star of a block of {block.out_shape} with respect to {block.wrt_shape} and an array needs an array of "
            f"the block's {which} {wanted} on the {side}, but found one of shape {shape}"
        )


def _batched(function: Callable[[Any, Any], Any], block: Block, other: Any, rank: int = 0) -> Any:
    """Apply a function over the batch axes that an outer `vmap` has left on a block, or on both arguments.

    Args:
        function: of one block and one other block or array.
        block: the block.
        other: a block, or an array of `rank` axes without its batch axes.
        rank: as said.
    """
    depth = len(block.batch_shape)
    other_depth = len(other.batch_shape) if isinstance(other, Block) else other.ndim - rank
    for level in range(1, max(depth, other_depth) + 1):
        function = jax.vmap(
            function, in_axes=(0 if depth >= level else None, 0 if other_depth >= level else None)
        )
    return function(block, other)


def _star_blocks(left: Block, right: Block) -> Block:
    dtype = right.dtype
    terms: list[Term] = []
    for one in left.terms:
        for other in right.terms:
            term = _star_terms(_cast(one, dtype), other.relabelled(), left, right)
            if term is not None:
                terms.append(term)
    return summed(left.out_shape, right.wrt_shape, dtype, terms)


def _cast(term: Term, dtype: Any) -> Term:
    if all(factor.array.dtype == dtype for factor in term.factors):
        return term
    return Term(
        tuple(arrays.cast(factor, dtype) for factor in term.factors),
        term.out,
        term.wrt,
        term.coefficient,
    )


def _star_terms(left: Term, right: Term, one: Block, other: Block) -> Term | None:
    arrays.count_contraction()
    left = _prepared(left, right, one)
    labels = [*left.labels, *right.labels]
    network = Network(
        [*left.factors, *right.factors],
        [*left.out, *right.wrt],
        labels,
        left.coefficient * right.coefficient,
    )
    try:
        network.solve(list(zip(left.wrt, right.out, one.wrt_shape, strict=True)))
    except Contradiction:
        return None
    return tidy(network.term(len(left.out)), one.out_shape, other.wrt_shape)


def _prepared(left: Term, right: Term, block: Block) -> Term:
    """Make an axis of the left term dense first, where a lookup or window on it would cost more to follow.

    Following means to gather the right factors (or to compare two lookups) over the labels of the left index; making it
    dense means to add the left entries up on the axis.
    """
    hard = []
    for axis, (index, meeting, size) in enumerate(
        zip(left.wrt, right.out, block.wrt_shape, strict=True)
    ):
        plain = index.constant or index.single is not None
        if plain and meeting.lookup is None:
            continue
        if plain or (index.lookup is None and meeting.lookup is None and meeting.single is None):
            continue
        if (
            not any(set(meeting.labels) & set(factor.labels) for factor in right.factors)
            and meeting.single is not None
        ):
            continue
        gathered = arrays.numel(index.labels) * (
            1 if meeting.single is not None else arrays.numel(meeting.labels)
        )
        other_labels = {
            label
            for place, other in enumerate(left.indices)
            if place != len(left.out) + axis
            for label in other.labels
        }
        if (
            arrays.numel([label for label in index.labels if label in other_labels]) * size
            <= gathered
        ):
            hard.append(axis)
    return as_dense_axes(left, hard, block.wrt_shape, block.dtype) if hard else left


# Sums


def add(left: Block, right: Block) -> Block:
    """The sum of two blocks of the same shapes, with the terms that fit each other merged.

    Raises:
        BlockShapeError: if the shapes differ; both are named.
    """
    if (left.out_shape, left.wrt_shape) != (right.out_shape, right.wrt_shape):
        raise BlockShapeError(
            f"blocks add up only with equal shapes, but found one of {left.out_shape} with respect to {left.wrt_shape} "
            f"and one of {right.out_shape} with respect to {right.wrt_shape}"
        )
    return _batched(_add_blocks, left, right)


def _add_blocks(left: Block, right: Block) -> Block:
    dtype = np.dtype(jnp.result_type(left.dtype, right.dtype))
    return summed(left.out_shape, left.wrt_shape, dtype, [*left.terms, *right.terms])


def summed(
    out_shape: tuple[int, ...], wrt_shape: tuple[int, ...], dtype: Any, terms: Sequence[Term]
) -> Block:
    """A block of terms, merged where that stores no more than keeping them apart."""
    kept: list[Term] = []
    for term in terms:
        for place, other in enumerate(kept):
            joint = _merged_pair(other, term, dtype)
            if joint is not None:
                kept[place] = joint
                break
        else:
            kept.append(term)
    kept = [term for term in kept if term.coefficient != 0]
    block = rebuilt(out_shape, wrt_shape, dtype, kept)
    if len(kept) > 1:
        common = _common_structure(block)
        if len(kept) > MAX_TERMS or common.entries <= block.stored:
            return rebuilt(out_shape, wrt_shape, dtype, [common.merge(block)])
    return block


def _merged_pair(one: Term, other: Term, dtype: Any) -> Term | None:
    """Two terms over the same indices as one, with the factors that both share pulled out; None where it costs more."""
    mapping = _correspondence(one, other)
    if mapping is None:
        return None
    renamed = [
        Factor(factor.array, tuple(mapping[label] for label in factor.labels), factor.name)
        for factor in other.factors
    ]
    rest_one, rest_other, shared = list(one.factors), list(renamed), []
    for factor in one.factors:
        twin = next(
            (
                twin
                for twin in rest_other
                if twin.array is factor.array and twin.labels == factor.labels
            ),
            None,
        )
        if twin is not None:
            shared.append(factor)
            rest_one.remove(factor)
            rest_other.remove(twin)
    if not rest_one and not rest_other:
        return Term(tuple(shared), one.out, one.wrt, one.coefficient + other.coefficient)
    entries = arrays.numel(arrays.union([*rest_one, *rest_other]))
    if entries > sum(factor.numel for factor in [*rest_one, *rest_other]):
        return None
    coefficient = one.coefficient if not rest_one or one.coefficient == other.coefficient else 1
    if not rest_one or not rest_other:
        factor = _plus_constant(rest_one or rest_other, one, other, bool(rest_one), dtype)
        return Term((*shared, factor), one.out, one.wrt, 1)
    scale = (
        (1, 1)
        if coefficient == one.coefficient == other.coefficient
        else (one.coefficient, other.coefficient)
    )
    total = arrays.add(
        arrays.product(rest_one, scale[0], dtype), arrays.product(rest_other, scale[1], dtype)
    )
    return Term((*shared, total), one.out, one.wrt, coefficient)


def _plus_constant(
    rest: list[Factor], one: Term, other: Term, rest_is_ones: bool, dtype: Any
) -> Factor:
    scale, constant = (
        (one.coefficient, other.coefficient)
        if rest_is_ones
        else (other.coefficient, one.coefficient)
    )
    varying = arrays.cast(arrays.product(rest, scale, dtype), dtype)
    if arrays.is_planning():
        return arrays.add(varying, varying)
    return Factor(varying.array + jnp.asarray(constant, varying.array.dtype), varying.labels)


def _correspondence(one: Term, other: Term) -> dict[Label, Label] | None:
    """The renaming of the other term's labels that makes its indices equal to the first one's, or None."""
    mapping: dict[Label, Label] = {}
    taken: set[Label] = set()
    for mine, theirs in zip(one.indices, other.indices, strict=True):
        if mine.offset != theirs.offset or len(mine.strides) != len(theirs.strides):
            return None
        if (mine.lookup is None) != (theirs.lookup is None):
            return None
        pairs = [
            (a, b)
            for (a, _), (b, _) in zip(
                sorted(mine.strides, key=lambda pair: pair[1]),
                sorted(theirs.strides, key=lambda pair: pair[1]),
                strict=True,
            )
        ]
        if sorted(stride for _, stride in mine.strides) != sorted(
            stride for _, stride in theirs.strides
        ):
            return None
        if mine.lookup is not None and theirs.lookup is not None:
            if mine.lookup.array is not theirs.lookup.array:
                return None
            pairs += list(zip(mine.lookup.labels, theirs.lookup.labels, strict=True))
        for a, b in pairs:
            if a.size != b.size or mapping.get(b, a) is not a or (b not in mapping and a in taken):
                return None
            mapping[b] = a
            taken.add(a)
    return mapping


class _CommonStructure:
    """A structure that holds all terms of a block: the deltas and constant axes they share, dense elsewhere."""

    def __init__(
        self, out: list[int], wrt: list[int], pairs: list[tuple[int, int]], entries: int
    ) -> None:
        self.out, self.wrt, self.pairs, self.entries = out, wrt, pairs, entries

    def merge(self, block: Block) -> Term:
        """All terms of the block as one."""
        rank = len(block.out_shape)
        total: Factor | None = None
        target = [Label(size) for size in block.shape]
        for i, j in self.pairs:
            target[rank + j] = target[i]
        kept = {rank + j for _, j in self.pairs} | {i for i, _ in self.pairs}
        dense_axes = [axis for axis in range(len(target)) if axis not in kept]
        for term in block.terms:
            factor = dense_over(term, dense_axes, kept, target, block)
            total = factor if total is None else arrays.add(total, factor)
        if total is None:
            raise ValueError("a block without terms has nothing to merge")
        indices = [Index.of(label) for label in target]
        return Term((total,), tuple(indices[:rank]), tuple(indices[rank:]))


def dense_over(
    term: Term, dense_axes: list[int], kept: set[int], target: list[Label], block: Block
) -> Factor:
    """The term's entries over the target labels: dense along `dense_axes`, its own deltas along the kept axes."""
    mapping = {}
    for axis in kept:
        single = term.indices[axis].single
        if single is not None:
            mapping[single[0]] = target[axis]
    axes = [Axis(term.indices[axis], block.shape[axis], target[axis]) for axis in dense_axes]
    factor = materialise(term.factors, axes, list(mapping), block.dtype, term.coefficient)
    labels = tuple(mapping.get(label, label) for label in factor.labels)
    return Factor(factor.array, labels)


def _common_structure(block: Block) -> _CommonStructure:
    """Which pairs of an output and an input axis are the same delta in every term."""
    pairs = []
    for i, size in enumerate(block.out_shape):
        for j, other_size in enumerate(block.wrt_shape):
            if (
                size == other_size
                and size > 1
                and all(_is_delta(term, i, j, size) for term in block.terms)
            ):
                pairs.append((i, j))
    out = [i for i in range(len(block.out_shape)) if i not in {pair[0] for pair in pairs}]
    wrt = [j for j in range(len(block.wrt_shape)) if j not in {pair[1] for pair in pairs}]
    entries = math.prod(block.out_shape) * math.prod(block.wrt_shape[j] for j in wrt)
    return _CommonStructure(out, wrt, pairs, entries)


def _is_delta(term: Term, i: int, j: int, size: int) -> bool:
    """Whether out axis i and wrt axis j are one plain label that occurs in no other index."""
    if not term.out[i].is_plain(size) or not term.wrt[j].is_plain(size):
        return False
    label = term.out[i].labels[0]
    if term.wrt[j].labels[0] is not label:
        return False
    return sum(label in index.labels for index in term.indices) == 2
