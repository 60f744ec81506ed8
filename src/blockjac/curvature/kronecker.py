"""A Kronecker product of two symmetric matrices, as a block and in linear systems."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.blocks import Block, Term
from blockjac.linear_systems.eigen import Eigen, factored
from blockjac.terms.block import rebuilt


def square_matrix(block: Block) -> Any:
    """The dense block as a matrix."""
    size = math.prod(block.out_shape)
    return jnp.reshape(block.dense(), (size, size))


@dataclass(frozen=True, eq=False)
class Pair:
    """The two factors of the block of one parameter: `A (x) G` over two groups of its axes.

    Attributes:
        left: A, a symmetric block by the first group of axes, twice.
        right: G, one by the second group.
        left_axes: which axes of the parameter are the first group.
        right_axes: which are the second.
    """

    left: Block
    right: Block
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the parameter, group by group."""
        return self.left_axes + self.right_axes

    @property
    def order(self) -> list[int]:
        """Where each axis of the parameter is among those of the groups."""
        return [self.axes.index(axis) for axis in range(len(self.axes))]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter."""
        sizes = self.left.out_shape + self.right.out_shape
        return tuple(sizes[axis] for axis in self.order)

    @property
    def dtype(self) -> Any:
        """The dtype of the factors."""
        return self.left.dtype

    @property
    def block(self) -> Block:
        """`A (x) G` as a Block of two factors."""
        terms: list[Term] = []
        for left, right in itertools.product(self.left.terms, self.right.terms):
            out, wrt = left.out + right.out, left.wrt + right.wrt
            indices = (tuple(side[axis] for axis in self.order) for side in (out, wrt))
            terms.append(Term(left.factors + right.factors, *indices))
        return rebuilt(self.shape, self.shape, self.dtype, terms)

    def solver(self, damping: Any) -> Eigen:
        """A solver for `A (x) G + damping I`, by the eigenvectors of both factors."""
        A, G = (square_matrix(block) for block in (self.left, self.right))
        return Eigen(*factored(A, G, damping), self.shape, self.left_axes, self.right_axes)


jax.tree_util.register_pytree_node(
    Pair,
    lambda pair: ((pair.left, pair.right), (pair.left_axes, pair.right_axes)),
    lambda axes, blocks: Pair(*blocks, *axes),
)
