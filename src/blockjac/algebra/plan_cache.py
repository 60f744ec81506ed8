"""Plans that were made before: what two blocks of given structures contract to, and at what price.

Inside a plan, a contraction and a sum depend on structure alone: on the terms of both blocks, the
shapes and dtypes of their arrays, and on which arrays are the same. A deep network has few such
pairs, and a search over orders meets each of them thousands of times; so each is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
"""How many pairs are remembered; past that all are forgotten."""


@dataclass(frozen=True, eq=False)
class BlockSignature:
    """All that a plan knows of a block, but for which of its arrays another block shares.

    Attributes:
        structure: the terms, with arrays by number.
        shapes: of the arrays.
        dtypes: of the arrays.
        known: the arrays themselves where they are lookups and constants; None for others.
    """

    structure: Structure
    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]
    known: tuple[np.ndarray | None, ...]


class AbstractBlock(Block):
    """A block in a plan, known by its kind; its terms are made when something asks for them."""

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


def _parts(outline: AbstractBlock) -> tuple[Any, Any]:
    return outline.arrays, outline.kind.structure


def _made_of(structure: Any, arrays: Any) -> Any:
    return unflatten(structure, arrays)


jax.tree_util.register_pytree_node(AbstractBlock, _parts, _made_of)


@dataclass(frozen=True, eq=False)
class _Answer:
    """What a pair gives.

    Attributes:
        kind: of the result.
        places: for each of its arrays its place among those of the pair, or None for a new one.
        cost: the price.
    """

    kind: BlockSignature
    places: tuple[int | None, ...]
    cost: Cost


_kinds = Table("structures in plans", MAX_PAIRS)
_answers = Table("pairs of structures in plans", MAX_PAIRS)


def memoized(operation: Callable[[Block, Block], Block], left: Block, right: Block) -> Block:
    """In a plan: `operation(left, right)`, worked out once for each pair of structures.

    Args:
        operation: a contraction or sum of two blocks that looks at structure alone.
        left: a block.
        right: a block.
    """
    if backend().follows_places:
        return operation(left, right)
    cost = current_cost()
    (one, first), (other, second) = signature_of(left), signature_of(right)
    arrays = (*first, *second)
    number: dict[int, int] = {}
    pattern = tuple([number.setdefault(id(array), len(number)) for array in arrays])
    key = (operation, one, other, pattern, is_in_a_step())
    answer = _answers.get(key)
    if answer is None:
        if len(_answers) >= MAX_PAIRS:
            forget()
            return memoized(operation, left, right)
        answer = _answers[key] = _worked_out(operation, one, other, pattern)
    cost.recall(key, answer.cost)
    made = [
        stand_in if place is None else arrays[place]
        for place, stand_in in zip(answer.places, _stand_ins(answer.kind), strict=True)
    ]
    return AbstractBlock(answer.kind, made)


def _stand_ins(kind: BlockSignature) -> list[Any]:
    """Arrays that know their shape alone, and the constants that lookups are."""
    return [
        Abstract(shape, dtype) if known is None else known
        for shape, dtype, known in zip(kind.shapes, kind.dtypes, kind.known, strict=True)
    ]


def forget() -> None:
    """Forget all pairs and kinds; blocks of a plan under way keep theirs."""
    _answers.clear()
    _kinds.clear()


def signature_of(block: Block) -> tuple[BlockSignature, Sequence[Any]]:
    """The kind of a block, and its arrays."""
    if isinstance(block, AbstractBlock):
        return block.kind, block.arrays
    if block.outline is None:
        arrays, structure = flatten(block)
        block.outline = _kind(structure, arrays), arrays
    return block.outline


def _kind(structure: Structure, arrays: Sequence[Any]) -> BlockSignature:
    structure = replace(structure, names=structure.names.without())
    shapes = tuple(tuple(array.shape) for array in arrays)
    dtypes = tuple(np.dtype(array.dtype) for array in arrays)
    known = _known(structure, arrays)
    # Constants are interned, and live as long as the kind that is found by them.
    key = (structure, shapes, dtypes, tuple(None if one is None else id(one) for one in known))
    found = _kinds.get(key)
    if found is None:
        found = _kinds[key] = BlockSignature(structure, shapes, dtypes, known)
    return found


def _known(structure: Structure, arrays: Sequence[Any]) -> tuple[np.ndarray | None, ...]:
    """The arrays that lookups hold as constants; None for all others.

    Masks that are known are others here: plans that follow places know them, and remember no pairs.
    """
    lookups = {
        key[0]
        for _, _, _, out, wrt in structure.terms
        for _, _, key in (*out, *wrt)
        if key is not None and key[-1]
    }
    return tuple(
        array if place in lookups and isinstance(array, np.ndarray) else None
        for place, array in enumerate(arrays)
    )


def _worked_out(
    operation: Callable[[Block, Block], Block],
    one: BlockSignature,
    other: BlockSignature,
    pattern: Sequence[int],
) -> _Answer:
    stand_ins: dict[int, Any] = {}
    arrays = [
        stand_ins.setdefault(number, stand_in)
        for number, stand_in in zip(pattern, (*_stand_ins(one), *_stand_ins(other)), strict=True)
    ]
    left = unflatten(one.structure, arrays[: len(one.shapes)])
    right = unflatten(other.structure, arrays[len(one.shapes) :])
    with planning() as cost:
        block = operation(left, right)
    made, structure = flatten(block)
    place_of = {id(array): place for place, array in reversed(list(enumerate(arrays)))}
    places = tuple(place_of.get(id(array)) for array in made)
    return _Answer(_kind(structure, made), places, cost)
