"""The result of a layer by its weights, split into inputs and what passes.

The derivative of `Y[n,t,h] = sum_i X[n,t,i] W[i,h]` by `W` is `X[n,t,i] δ[h,h']`: inputs by the
axes of the weights that they meet, and deltas of the axes that pass to the result. So it is for
convolutions, whose inputs are the patches `X[n,t+k,c]`; for lookups, whose inputs are one-hot rows
that are never written out; and for weights that are reshaped, sliced or transposed on the way. The
axes of the result that are neither, `n` and `t`, are the *positions* that share the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockjac.base.arrays import Shape
from blockjac.blocks import Block, Factor, Index, Label, Term, star
from blockjac.graph.example_states import Apart
from blockjac.terms.axes import beside, rearranged
from blockjac.terms.block import rebuilt


@dataclass(frozen=True)
class Examples:
    """Where a value has its examples.

    Attributes:
        count: how many there are.
        state: the axis, and how many places next to each other belong to the same example.
    """

    count: int
    state: Apart


@dataclass(frozen=True, eq=False)
class Layer:
    """One use of weights as a product of inputs and deltas.

    Some axes may belong to both sides: each head, channel or step of a loop has weights of its
    own. The blocks have these first among their input axes.

    Attributes:
        inputs: X, of the positions by the axes of the weights of both sides and of the left.
        passed: the axes of the result that pass, by the axes of the weights that do.
        shape: of the result.
        positions: the axes of the result that share the weights.
        both: pairs of axes, of the result and of the weights, that belong to both sides.
        outputs: the axes of the result that pass.
        left_axes: the axes of the weights that meet inputs.
        right_axes: those that pass.
    """

    inputs: Block
    passed: Block
    shape: Shape
    positions: tuple[int, ...]
    both: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]

    @property
    def axes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The axes of the weights: of both sides, of the left and of the right."""
        return tuple(axis for _, axis in self.both), self.left_axes, self.right_axes

    @property
    def count(self) -> int:
        """How many positions share the weights, those of all examples together."""
        return math.prod(self.shape[axis] for axis in self.positions)

    def arriving(self, block: Block) -> Block:
        """Derivatives by the result as derivatives by what passes, at each position.

        Args:
            block: of anything by the result.

        Returns:
            A block with the positions behind its output axes, and as input axes those of the
            weights of both sides and of the right.
        """
        first = [axis for axis, _ in self.both]
        moved = _with_outputs(block, self.positions, [*first, *self.outputs])
        return star(moved, beside(self.passed, moved.wrt_shape[: len(first)]))

    def summed(self, block: Block, examples: Examples) -> Block:
        """As `arriving`, with one place for each example: summed over its positions."""
        spread = _spread(self.shape, self.positions, examples, block.dtype)
        rest = [axis for axis in range(len(self.shape)) if axis not in self.positions]
        first = [1 + rest.index(axis) for axis, _ in self.both]
        order = [*first, *(1 + rest.index(axis) for axis in self.outputs)]
        moved = _with_outputs(star(block, spread), [0], order)
        return star(moved, beside(self.passed, moved.wrt_shape[: len(first)]))

    def summed_inputs(self, examples: Examples) -> Block:
        """The sum of the inputs over the positions of each example."""
        shape, axis = self.inputs.out_shape, self.positions.index(examples.state.axis)
        state = Apart(axis, examples.state.below)
        every = range(len(shape))
        spread = _spread(shape, every, Examples(examples.count, state), self.inputs.dtype)
        return star(spread.T, self.inputs)


def layer_of(block: Block) -> Layer | None:
    """A use of weights as a layer; None where the derivative is not a product of two sides.

    That of a scale or an offset is none either: one side would be a number.

    Args:
        block: the result by the weights.
    """
    if len(block.terms) != 1:
        return None
    (term,) = block.terms
    out, wrt = block.out_shape, block.wrt_shape
    outputs, right = _passing(term)
    both = [
        (i, j)
        for i, size in enumerate(out)
        for j in range(len(wrt))
        if i not in outputs and j not in right and term.has_delta(i, j, size)
    ]
    shared = [i for i, _ in both], [j for _, j in both]
    positions = [axis for axis in range(len(out)) if axis not in (*outputs, *shared[0])]
    left = [axis for axis in range(len(wrt)) if axis not in (*right, *shared[1])]
    if not positions or _size(wrt, left) == 1 or (_size(wrt, right) == 1 and not both):
        return None
    columns = [*shared[1], *left]
    inputs = Term(
        term.factors,
        tuple(term.out[axis] for axis in positions),
        tuple(term.wrt[axis] for axis in columns),
        term.coefficient,
    )
    indices = (term.out[axis] for axis in outputs), (term.wrt[axis] for axis in right)
    passed = Term((), *map(tuple, indices))
    return Layer(
        rebuilt(_sizes(out, positions), _sizes(wrt, columns), block.dtype, [inputs]),
        rebuilt(_sizes(out, outputs), _sizes(wrt, right), block.dtype, [passed]),
        out,
        tuple(positions),
        tuple(both),
        tuple(outputs),
        tuple(left),
        tuple(right),
    )


def _passing(term: Term) -> tuple[list[int], list[int]]:
    """The output and the input axes of a term that hang together by deltas alone."""
    outputs: list[int] = []
    right: list[int] = []
    for group in term.label_groups:
        sides = [_that_meet(side, group) for side in (term.out, term.wrt)]
        indices = [index for index in term.indices if index.lookup is not None]
        has_arrays = bool(_that_meet([*term.factors, *indices], group))
        if all(sides) and not has_arrays:
            outputs += sides[0]
            right += sides[1]
    return sorted(outputs), sorted(right)


def _that_meet(parts: Sequence[Factor | Index], group: set[Label]) -> list[int]:
    """The numbers of the parts that have a label of a group."""
    return [n for n, part in enumerate(parts) if not group.isdisjoint(part.labels)]


def _size(shape: Shape, axes: Sequence[int]) -> int:
    return math.prod(_sizes(shape, axes))


def _sizes(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(shape[axis] for axis in axes)


def _with_outputs(block: Block, moved: Sequence[int], stay: Sequence[int]) -> Block:
    """A block with some input axes behind its output axes, and the others in an order."""
    rank = len(block.out_shape)
    behind = [rank + axis for axis in moved]
    return rearranged(block, [*range(rank), *behind], [rank + axis for axis in stay])


def _spread(shape: Shape, positions: Sequence[int], examples: Examples, dtype: Any) -> Block:
    """From values by example, and by the other axes, to all positions."""
    labels = {axis: Label(size) for axis, size in enumerate(shape)}
    index, example = example_index(shape[examples.state.axis], examples)
    out = [Index.of(label) for label in labels.values()]
    out[examples.state.axis] = index
    rest = [axis for axis in range(len(shape)) if axis not in positions]
    wrt = (Index.of(example), *(Index.of(labels[axis]) for axis in rest))
    sizes = (examples.count, *_sizes(shape, rest))
    return Block(shape, sizes, dtype, [Term((), tuple(out), wrt)])


def example_index(size: int, examples: Examples) -> tuple[Index, Label]:
    """The index of an axis that holds the examples, and the label that counts them."""
    below = examples.state.below
    above = Label(size // (examples.count * below))
    example, inside = Label(examples.count), Label(below)
    strides = [(above, examples.count * below), (example, below), (inside, 1)]
    return Index(0, tuple(pair for pair in strides if pair[0].size != 1)), example
