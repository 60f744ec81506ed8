"""What arrives at the uses of parameters: all outputs of the model, or random samples of them.

`J' H J` with the Jacobian J of the outputs and the second derivative H of the loss by them is also
the expectation of `(J' r) (J' r)'`, with random vectors r of which `E[r r'] = H`: one sweep through
the model for each sample, where J takes one for each output of an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from blockjac.base.trees import flattened
from blockjac.blocks import Block, BlockMatrix, add, star
from blockjac.curvature.gauss_newton import GaussNewton
from blockjac.kronecker_factors.layer_factors import Sides, of_all, of_examples
from blockjac.kronecker_factors.layers import Examples
from blockjac.transforms.first_order import block_jacobian
from blockjac.transforms.linearization import Linearization

ByUse = Sequence[tuple[int, Block]]
"""Numbers of uses, with their results by something."""


class Arrivals(Protocol):
    """What arrives at the result of each use."""

    def sides(self, use: int) -> Sides | None:
        """Pairs of blocks by the result of a use, whose products make G; None for the identity."""
        ...

    def through(self, uses: ByUse) -> GaussNewton | None:
        """The exact matrix of something that enters by some uses; None where examples have met."""
        ...

    def of_model(self, outputs: Callable[[Any], Sequence[Any]], point: Any) -> GaussNewton:
        """The exact matrix of something that enters in any way.

        Args:
            outputs: those of the model, as a function of it.
            point: its value.
        """
        ...


@dataclass(frozen=True, eq=False)
class Exact:
    """All outputs.

    Attributes:
        jacobian: the outputs by the results of the uses.
        inner: H.
        is_identity: whether G is to be the identity instead.
    """

    jacobian: BlockMatrix | None
    inner: BlockMatrix
    is_identity: bool = False

    @cached_property
    def _weighted(self) -> BlockMatrix:
        assert self.jacobian is not None
        return self.inner @ self.jacobian

    def sides(self, use: int) -> Sides | None:
        """The outputs by the result of a use, and the same times H."""
        if self.is_identity or self.jacobian is None:
            return None
        left, right = self.jacobian, self._weighted
        return [row[use] for row in left.rows], [row[use] for row in right.rows]

    def through(self, uses: ByUse) -> GaussNewton | None:
        """`J' H J` with J by way of the uses."""
        if self.jacobian is None:
            return None
        rows = [
            [reduce(add, [star(row[use], block) for use, block in uses])]
            for row in self.jacobian.rows
        ]
        return GaussNewton(BlockMatrix(rows, self.inner.out_tree), self.inner)

    def of_model(self, outputs: Callable[[Any], Sequence[Any]], point: Any) -> GaussNewton:
        """`J' H J` with J of the model."""

        def of_value(value: Any) -> tuple[Any, ...]:
            return tuple(outputs(value))

        jacobian = block_jacobian(of_value)(point)
        rows = [[block] for block in jax.tree.leaves(jacobian, is_leaf=_is_block)]
        return GaussNewton(BlockMatrix(rows, self.inner.out_tree), self.inner)


def _is_block(value: Any) -> bool:
    return isinstance(value, Block)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Samples of the outputs.

    Attributes:
        vectors: the samples r for each output, with an axis for them in front.
        gradients: `J' r` by the result of each use, likewise.
        examples: where the results have the examples.
    """

    vectors: Sequence[jax.Array]
    gradients: Sequence[jax.Array]
    examples: Sequence[Examples | None]

    def sides(self, use: int) -> Sides | None:
        """The sampled gradients by the result of a use, twice."""
        block = of_all(self.gradients[use])
        return [block], [block]

    def through(self, uses: ByUse) -> GaussNewton | None:
        """The sum over samples and examples of the products of the gradients of each."""
        parts: list[Block] = []
        for use, block in uses:
            examples = self.examples[use]
            if examples is None:
                return None
            parts.append(star(of_examples(self.gradients[use], examples), block))
        return _of_gradients(reduce(add, parts))

    def of_model(self, outputs: Callable[[Any], Sequence[Any]], point: Any) -> GaussNewton:
        """The same, by a sweep of its own."""

        def sampled(value: Any) -> jax.Array:
            """For each sample and example, the outputs in the direction of the sample."""
            products = [
                jnp.sum(vector * output, axis=tuple(range(2, vector.ndim)))
                for vector, output in zip(self.vectors, outputs(value), strict=True)
            ]
            return reduce(jnp.add, products)

        return _of_gradients(block_jacobian(sampled)(point))


def _of_gradients(gradients: Block) -> GaussNewton:
    """The sum of the products of gradients, of shape (samples, examples) by something."""
    identity = Block.identity(gradients.out_shape, gradients.dtype)
    return GaussNewton(BlockMatrix([[gradients]]), BlockMatrix([[identity]]))


def pulled(
    jacobian: Linearization | BlockMatrix | None, vectors: Sequence[jax.Array]
) -> list[jax.Array]:
    """`J' r` for samples of the outputs, with an axis for them in front."""

    def sweep(vectors: Sequence[jax.Array]) -> list[jax.Array]:
        if isinstance(jacobian, Linearization):
            return jacobian.pulled(vectors)
        assert jacobian is not None
        tree = jax.tree.unflatten(jacobian.out_tree, vectors)
        return flattened(jacobian.T.matvec(tree))[0]

    if jacobian is None:
        return []
    if len(vectors[0]) == 1:
        return [array[None] for array in sweep([vector[0] for vector in vectors])]
    return jax.vmap(sweep)(list(vectors))
