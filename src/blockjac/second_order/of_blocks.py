"""Derivatives of functions that give Blocks: Blocks too, with the axes of both.

The arrays of a Jacobian in Blocks are functions of the inputs. Its derivative has the indices of
the Block and one more for each axis of an input: of each term one array at a time is replaced by
its own Jacobian. An elementwise function has a delta of three indices, and stores what the function
gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockjac.algebra.curved import curved
from blockjac.algebra.nonzeros import without_masks
from blockjac.algebra.sums import compact
from blockjac.base.arrays import Shape
from blockjac.base.promises import keeping_structure
from blockjac.blocks import Block, add
from blockjac.engine.computations import Arrays, Jacobian
from blockjac.graph.graph import Graph, Operand
from blockjac.terms.axes import rearranged
from blockjac.terms.block import unflatten
from blockjac.terms.structure import Structure


@dataclass(frozen=True)
class Given:
    """A result of a function: an array, or a Block.

    Attributes:
        numbers: of its arrays among the results of the graph.
        structure: of the Block; None for an array.
    """

    numbers: tuple[int, ...]
    structure: Structure | None


@dataclass(frozen=True)
class OfBlocks:
    """The Jacobian, in Blocks, of a function that gives Blocks.

    Attributes:
        jacobian: of all arrays of the function's results, in Blocks, with the values.
        given: the results.
    """

    jacobian: Jacobian
    given: tuple[Given, ...]

    @property
    def keeps_structure(self) -> bool:
        """Whether the answer's structure may depend on constants of the program."""
        return True

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and a row of Blocks for each result."""
        aux, (values, rows) = self.jacobian(graph, arguments, captured, extra)
        arrays = [
            graph.known.get(output.value, array) if isinstance(output, Operand) else array
            for output, array in zip(graph.outputs, values, strict=False)
        ]
        with keeping_structure(True):
            shapes = [graph.avals[value].shape for value in self.jacobian.wrt]
            return aux, [self._row(given, arrays, rows, shapes) for given in self.given]

    def _row(
        self,
        given: Given,
        arrays: Sequence[Any],
        rows: Sequence[Sequence[Block]],
        shapes: Sequence[Shape],
    ) -> list[Block]:
        """The derivatives of one result by each input, of these shapes."""
        if given.structure is None:
            (number,) = given.numbers
            return list(rows[number])
        block = unflatten(given.structure, [arrays[number] for number in given.numbers])
        # An array that stands in several places is replaced in all of them at once.
        once = {id(arrays[number]): number for number in given.numbers}.values()
        shape = *block.out_shape, *block.wrt_shape
        found: list[Block] = []
        for place, own in enumerate(shapes):
            total = Block.zeros(shape, own, block.dtype)
            for number in once:
                total = add(total, derivative(block, arrays[number], rows[number][place]))
            found.append(compact(without_masks(total, 1)))
        return found


def derivative(block: Block, array: Any, rates: Block) -> Block:
    """The derivative of a Block where one of its arrays varies.

    Args:
        block: the Block.
        array: the array.
        rates: the Jacobian of the array by a variable.

    Returns:
        A Block of all axes of the first, by the variable.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import Block
        >>> slopes = jnp.array([1.0, 2.0])
        >>> bends = Block.diag(jnp.array([3.0, 4.0]))
        >>> derivative(Block.diag(slopes), slopes, bends).structure
        "δ[i,i'] δ[i,i''] A[i]"
    """
    directions = Block.identity(block.wrt_shape, block.dtype)
    both = curved(block, array, rates, directions, "both")
    rank = len(block.shape)
    return rearranged(both, range(rank), range(rank, len(both.shape)))
