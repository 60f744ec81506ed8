"""Plans made before: the result of contracting or adding two structures, and its price.

Inside a plan, a contraction and a sum depend on structure alone: on the terms of both blocks, the
shapes and dtypes of their arrays, and on which arrays are the same. A deep network has few distinct
pairs of structures, and a search over orders meets each thousands of times; so each is planned
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import numpy as np

from blockjac.algebra.backend import backend, current_cost, planning
from blockjac.algebra.cost import Abstract, Cost
from blockjac.base.arrays import Shape
from blockjac.base.caches import Table
from blockjac.base.tracing import is_in_a_step
from blockjac.terms.block import Block, flatten, unflatten
from blockjac.terms.structure import Structure

MAX_PAIRS = 100_000
"""The number of pairs to remember; beyond it all are forgotten."""


@dataclass(frozen=True, eq=False)
class BlockSignature:
    """What a plan knows of a block, except which of its arrays another block shares.

    Attributes:
        structure: the terms, with arrays by number.
        shapes: the shapes of the arrays.
        dtypes: their dtypes.
        known: the arrays themselves if they are constant lookups; None for others.
    """

    structure: Structure
    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]
    known: tuple[np.ndarray | None, ...]


class AbstractBlock(Block):
    """A block in a plan, known by its signature; its terms are made when they are first read."""

    __slots__ = ("arrays", "kind")

    def __init__(self, kind: BlockSignature, arrays: Sequence[Any]) -> None:
        self.kind, self.arrays = kind, arrays
        self.out_shape = kind.structure.out_shape
        self.wrt_shape = kind.structure.wrt_shape
        self.dtype = kind.structure.dtype
        self._terms = self.outline = self.form = None
        self.flattened = list(arrays), kind.structure

    @property
    def batch_shape(self) -> Shape:
        """A plan has no batches."""
        return ()


def _parts(block: AbstractBlock) -> tuple[Sequence[Any], Structure]:
    return block.arrays, block.kind.structure


jax.tree_util.register_pytree_node(AbstractBlock, _parts, cast("Callable[..., Any]", unflatten))


@dataclass(frozen=True, eq=False)
class _Answer:
    """The result of a pair.

    Attributes:
        kind: the signature of the result.
        positions: for each of its arrays the position among those of the pair; None if it is new.
        cost: the price.
    """

    kind: BlockSignature
    positions: tuple[int | None, ...]
    cost: Cost


_kinds = Table("structures in plans", MAX_PAIRS)
_answers = Table("pairs of structures in plans", MAX_PAIRS)


def memoized(operation: Callable[[Block, Block], Block], left: Block, right: Block) -> Block:
    """`operation(left, right)` in a plan, computed once for each pair of structures.

    Args:
        operation: a contraction or sum of two blocks that reads structure alone.
        left: a block.
        right: a block.
    """
    if backend().follows_places:
        return operation(left, right)
    cost = current_cost()
    (left_kind, left_arrays), (right_kind, right_arrays) = signature_of(left), signature_of(right)
    arrays = (*left_arrays, *right_arrays)
    number: dict[int, int] = {}
    pattern = tuple([number.setdefault(id(array), len(number)) for array in arrays])
    key = (operation, left_kind, right_kind, pattern, is_in_a_step())
    answer = _answers.get(key)
    if answer is None:
        if len(_answers) >= MAX_PAIRS:
            forget()
            return memoized(operation, left, right)
        answer = _answers[key] = _worked_out(operation, left_kind, right_kind, pattern)
    cost.recall(key, answer.cost)
    results = [
        stand_in if position is None else arrays[position]
        for position, stand_in in zip(answer.positions, _stand_ins(answer.kind), strict=True)
    ]
    return AbstractBlock(answer.kind, results)


def _stand_ins(kind: BlockSignature) -> list[Any]:
    """Abstract arrays for a signature, and its constant lookups as they are."""
    return [
        Abstract(shape, dtype) if known is None else known
        for shape, dtype, known in zip(kind.shapes, kind.dtypes, kind.known, strict=True)
    ]


def forget() -> None:
    """Forget all pairs and signatures; blocks of a plan under way keep theirs."""
    _answers.clear()
    _kinds.clear()


def signature_of(block: Block) -> tuple[BlockSignature, Sequence[Any]]:
    """The signature of a block, and its arrays."""
    if isinstance(block, AbstractBlock):
        return block.kind, block.arrays
    if block.outline is None:
        arrays, structure = flatten(block)
        block.outline = _kind(structure, arrays), arrays
    return block.outline


def _kind(structure: Structure, arrays: Sequence[Any]) -> BlockSignature:
    """The signature of a structure with these arrays; equal signatures are one object."""
    structure = replace(structure, names=structure.names.without())
    shapes = tuple(tuple(array.shape) for array in arrays)
    dtypes = tuple(np.dtype(array.dtype) for array in arrays)
    known = _known(structure, arrays)
    # Constants are interned, and live as long as the signature whose key they are in.
    identities = tuple(None if array is None else id(array) for array in known)
    key = (structure, shapes, dtypes, identities)
    kind = _kinds.get(key)
    if kind is None:
        kind = _kinds[key] = BlockSignature(structure, shapes, dtypes, known)
    return kind


def _known(
    structure: Structure, arrays: Sequence[jax.Array | np.ndarray]
) -> tuple[np.ndarray | None, ...]:
    """The arrays that are constant lookups; None for all others.

    Known masks do not count here: plans that read them, entry by entry, remember no pairs.
    """
    lookups = {
        index.lookup.position
        for term in structure.terms
        for index in (*term.out, *term.wrt)
        if index.lookup is not None and index.lookup.constant
    }
    return tuple(
        array if position in lookups and isinstance(array, np.ndarray) else None
        for position, array in enumerate(arrays)
    )


def _worked_out(
    operation: Callable[[Block, Block], Block],
    left_kind: BlockSignature,
    right_kind: BlockSignature,
    pattern: Sequence[int],
) -> _Answer:
    """Plan an operation on two signatures whose arrays are the same where `pattern` repeats."""
    stand_ins: dict[int, Any] = {}
    arrays = [
        stand_ins.setdefault(number, stand_in)
        for number, stand_in in zip(
            pattern, (*_stand_ins(left_kind), *_stand_ins(right_kind)), strict=True
        )
    ]
    count = len(left_kind.shapes)
    left = unflatten(left_kind.structure, arrays[:count])
    right = unflatten(right_kind.structure, arrays[count:])
    with planning() as cost:
        block = operation(left, right)
    results, structure = flatten(block)
    position_of = {id(array): position for position, array in reversed(list(enumerate(arrays)))}
    positions = tuple(position_of.get(id(array)) for array in results)
    return _Answer(_kind(structure, results), positions, cost)
