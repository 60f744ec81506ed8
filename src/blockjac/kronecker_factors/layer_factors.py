"""The two Kronecker factors of a parameter, from what enters and what arrives at its uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import jax
import jax.numpy as jnp

from blockjac.algebra.backend import planning
from blockjac.algebra.dense import dense
from blockjac.algebra.star import star_along
from blockjac.blocks import Block, Factor, Index, Label, Term, add, star
from blockjac.devices import rates
from blockjac.engine.finish import NO_LIMIT
from blockjac.kronecker_factors.layers import Examples, Layer, example_index
from blockjac.kronecker_factors.of_parameter import Pair, diagonal_entries, is_diagonal
from blockjac.transforms.inner_products import seconds

Sides = tuple[Sequence[Block], Sequence[Block]]
"""Blocks by the result of a use, such that `L1' R1 + L2' R2 + ...` is what is asked."""


@dataclass(frozen=True, eq=False)
class UseOfWeights:
    """One use of a parameter.

    Attributes:
        layer: its two sides.
        arrivals: derivatives by its result; None where G is the identity.
        examples: where its result has the examples; None where they have met.
    """

    layer: Layer
    arrivals: Sides | None
    examples: Examples | None


def expanded(uses: Sequence[UseOfWeights]) -> Pair:
    """The factors that take every position for an example of its own (KFAC-expand)."""
    count = len(uses[0].layer.both)
    rows = sum(use.layer.count for use in uses)
    A = reduce(add, [_second_moment(use.layer.inputs, count) for use in uses]) * (1.0 / rows)
    parts: list[Block] = []
    for use in uses:
        if use.arrivals is not None:
            left, right = ([use.layer.arriving(block) for block in side] for side in use.arrivals)
            parts.append(_gram((left, right), count))
    return _pair(uses[0].layer, A, parts)


def reduced(uses: Sequence[UseOfWeights]) -> Pair:
    """The factors of what enters and arrives in sum at the positions of an example (KFAC-reduce).

    Args:
        uses: of a parameter; the examples have not met before any of them.
    """
    count = len(uses[0].layer.both)
    located = [(use, use.examples) for use in uses if use.examples is not None]
    examples = located[0][1].count
    positions = sum(use.layer.count for use in uses) // examples
    X = reduce(add, [use.layer.summed_inputs(place) for use, place in located])
    A = _second_moment(X, count) * (1.0 / (examples * positions**2))
    sides: list[list[Block]] = [[], []]
    for number, side in enumerate(sides):
        summed = [
            [use.layer.summed(block, place) for block in use.arrivals[number]]
            for use, place in located
            if use.arrivals is not None
        ]
        side += [reduce(add, blocks) for blocks in zip(*summed, strict=True)]
    parts = [_gram((sides[0], sides[1]), count)] if sides[0] else []
    return _pair(uses[0].layer, A, parts)


def _gram(sides: Sides, count: int) -> Block:
    """The sum of `L' R`, at equal places of the first input axes, which are then output axes."""
    pairs = [(axis, axis) for axis in range(count)]
    products: list[Block] = []
    for left, right in zip(*sides, strict=True):
        products.append(star_along(left.T, right, pairs) if count else star(left.T, right))
    return reduce(add, products)


def _second_moment(X: Block, count: int) -> Block:
    """`X' X`, of entries as X keeps them, or written out first if that is predicted to be faster.

    The product of one-hot rows is diagonal, and stays so. The patches of a convolution overlap, and
    their products twice.
    """

    def as_kept() -> Block:
        """The products of the entries as X keeps them."""
        return _gram(([X], [X]), count)

    def written() -> Block:
        """The products of the rows as one array."""
        labels = tuple(Label(size) for size in X.shape)
        indices, rank = tuple(map(Index.of, labels)), len(X.out_shape)
        factor = Factor(dense(X, max_bytes=NO_LIMIT), labels)
        term = Term((factor,), indices[:rank], indices[rank:])
        rows = Block(X.out_shape, X.wrt_shape, X.dtype, [term])
        return _gram(([rows], [rows]), count)

    with planning() as cost:
        planned = as_kept()
        stays = is_diagonal(planned)
        if not stays:
            dense(planned, max_bytes=NO_LIMIT)
    if stays or cost.seconds() < seconds(lambda: [written()]):
        return as_kept()
    if count:
        return written()
    shape = X.wrt_shape
    rows = jnp.reshape(dense(X, max_bytes=NO_LIMIT), (-1, math.prod(shape)))
    return Block.from_dense(jnp.reshape(product_with_itself(rows), (*shape, *shape)), len(shape))


def product_with_itself(rows: jax.Array) -> jax.Array:
    """`X' X` of a matrix; of two mirrored quarters one is computed, where that is faster.

    Args:
        rows: X, of shape `(m, n)`.
    """
    m, n = rows.shape
    half, device, size = n // 2, rates(), rows.dtype.itemsize
    saved = m * n * n / 2 / device.operations_per_second
    moved = 2 * m * n + 3 * n * n
    more = moved * size / device.bytes_per_second + 4 * device.seconds_a_contraction
    if saved < more:
        return rows.T @ rows
    left, right = rows[:, :half], rows[:, half:]
    mixed = left.T @ right
    upper = jnp.concatenate([left.T @ left, mixed], axis=1)
    return jnp.concatenate([upper, jnp.concatenate([mixed.T, right.T @ right], axis=1)])


def _pair(layer: Layer, A: Block, parts: Sequence[Block]) -> Pair:
    """The factors, each an array unless it is diagonal."""
    both, left_axes, right_axes = layer.axes
    left = _stored(A, "A")
    right = _stored(reduce(add, parts), "G") if parts else _identity(layer, A)
    return Pair(left, right, left_axes, right_axes, both)


def _stored(block: Block, name: str) -> Block:
    """A factor as an array, or as the array of its diagonal."""
    count = len(block.out_shape) - len(block.wrt_shape)
    if is_diagonal(block):
        entries = diagonal_entries(block)
        labels = tuple(map(Label, entries.shape))
        out = tuple(map(Index.of, labels))
        term = Term((Factor(entries, labels, name),), out, out[count:])
        return Block(block.out_shape, block.wrt_shape, block.dtype, [term])
    return Block.from_dense(dense(block), len(block.out_shape), name)


def _identity(layer: Layer, A: Block) -> Block:
    """The identity by the axes that pass, for each place of the axes of both sides."""
    sizes = A.out_shape[: len(layer.both)]
    first, rest = (tuple(Index.of(Label(n)) for n in ns) for ns in (sizes, layer.passed.wrt_shape))
    term = Term((), (*first, *rest), rest)
    return Block((*sizes, *layer.passed.wrt_shape), layer.passed.wrt_shape, A.dtype, [term])


def of_examples(gradients: jax.Array, examples: Examples) -> Block:
    """Gradients of the single examples by the result of a use, from those of their sum.

    Args:
        gradients: of the sum, with one for each sample in front.
        examples: where the result has the examples.

    Returns:
        A block of shape (samples, examples) by the result.
    """
    samples, *shape = gradients.shape
    index, example = example_index(shape[examples.state.axis], examples)
    labels = [Label(size) for size in shape]
    strides = dict(index.strides)
    places = [Index.of(label) for label in labels]
    places[examples.state.axis] = index
    split: list[Label] = []
    for axis, label in enumerate(labels):
        split += strides if axis == examples.state.axis else [label]
    sample = Label(samples)
    array = jnp.reshape(gradients, (samples, *(label.size for label in split)))
    term = Term(
        (Factor(array, (sample, *split), "g"),),
        (Index.of(sample), Index.of(example)),
        tuple(places),
    )
    return Block((samples, examples.count), tuple(shape), gradients.dtype, [term])


def of_all(gradients: jax.Array) -> Block:
    """Gradients of the sum over the examples, by the result of a use: one for each sample."""
    return Block.from_dense(gradients, 1, "g")
