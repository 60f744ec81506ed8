"""The approximations of the block of one parameter, as blocks and in linear systems."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import dense
from blockjac.base.arrays import Shape
from blockjac.blocks import Block, Index, Label, Term, star
from blockjac.linear_systems.eigen import AxisGroups, Eigen, Eigenbasis, eigenvectors
from blockjac.terms.block import rebuilt


@dataclass(frozen=True, eq=False)
class Pair(AxisGroups):
    """The two factors of the block of one parameter: `A (x) G` over two groups of its axes.

    A parameter with a matrix for each head, channel or step has two factors for each. These axes
    come first among the output axes of both blocks, and are missing among their input axes.

    Attributes:
        left: A, a symmetric block by the first group of axes, twice.
        right: G, one by the second group.
        left_axes: which axes of the parameter are the first group.
        right_axes: which are the second.
        both_axes: which have factors of their own for each place.
    """

    left: Block
    right: Block
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]
    both_axes: tuple[int, ...] = ()

    @property
    def shape(self) -> Shape:
        """The shape of the parameter."""
        sizes = self.left.out_shape + self.right.wrt_shape
        return tuple(sizes[axis] for axis in self.order)

    @property
    def dtype(self) -> Any:
        """The dtype of the factors."""
        return self.left.dtype

    @property
    def kind(self) -> str:
        """What the block is, in a word."""
        return "A (x) G"

    @property
    def block(self) -> Block:
        """`A (x) G` as a Block of two factors."""
        terms: list[Term] = []
        count = len(self.both_axes)
        for left, right in itertools.product(self.left.terms, self.right.terms):
            labels = [Label(size) for size in self.left.out_shape[:count]]
            A, G = (_over(term, labels) for term in (left, right))
            places = tuple(map(Index.of, labels))
            sides = (
                (*places, *A.out[count:], *G.out[count:]),
                (*places, *A.wrt, *G.wrt),
            )
            out, wrt = (tuple(side[axis] for axis in self.order) for side in sides)
            terms.append(Term(A.factors + G.factors, out, wrt, A.coefficient * G.coefficient))
        return rebuilt(self.shape, self.shape, self.dtype, terms)

    def matvec(self, tangent: jax.Array) -> jax.Array:
        """The block times an array of the parameter's shape."""
        return self.block.matvec(tangent)

    def diagonal(self) -> jax.Array:
        """The diagonal of the block, of the parameter's shape."""
        return self.block.diagonal()

    def eigen(self) -> Eigen:
        """The eigenvectors of both factors, and the eigenvalues of their product."""
        (a, U), (g, V) = (_eigen(block, len(self.both_axes)) for block in (self.left, self.right))
        basis = Eigenbasis(U, V, self.shape, self.left_axes, self.right_axes, self.both_axes)
        return Eigen(basis, a[:, :, None] * g[:, None, :])

    def solver(self, damping: Any) -> Eigen:
        """A solver for `A (x) G + damping I`, by the eigenvectors of both factors."""
        eigen = self.eigen()
        return Eigen(eigen.basis, eigen.values + damping)


def _over(term: Term, labels: list[Label]) -> Term:
    """A term whose first output axes run over some labels."""
    first = zip(term.out, labels, strict=False)
    return term.relabelled({index.strides[0][0]: label for index, label in first if index.strides})


def _eigen(block: Block, count: int) -> tuple[jax.Array, jax.Array | None]:
    """The eigenvalues and eigenvectors of a factor at each place; None for the identity.

    Args:
        block: the factor; its first output axes are the places.
        count: how many these are.
    """
    places, size = math.prod(block.out_shape[:count]), math.prod(block.wrt_shape)
    if is_diagonal(block):
        return jnp.reshape(diagonal_entries(block), (places, size)), None
    return eigenvectors(jnp.reshape(block.dense(), (places, size, size)))


def is_diagonal(factor: Block) -> bool:
    """Whether a factor is 0 off the diagonal, at each place of its first output axes.

    So it is where outputs and inputs have the same index, be it a label or a lookup.
    """
    count = len(factor.out_shape) - len(factor.wrt_shape)
    return bool(factor.terms) and all(
        out.is_same(wrt)
        for term in factor.terms
        for out, wrt in zip(term.out[count:], term.wrt, strict=True)
    )


def diagonal_entries(factor: Block) -> jax.Array:
    """The diagonal of a factor that has nothing else, of its output shape."""
    terms = [Term(term.factors, term.out, (), term.coefficient) for term in factor.terms]
    return dense(Block(factor.out_shape, (), factor.dtype, terms))


@dataclass(frozen=True, eq=False)
class Corrected:
    """The block of one parameter in the eigenvectors of its two factors, with other eigenvalues.

    Attributes:
        eigen: the eigenvectors, and the diagonal of the exact block in this basis.
    """

    eigen: Eigen

    @property
    def shape(self) -> Shape:
        """The shape of the parameter."""
        return self.eigen.basis.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the eigenvalues."""
        return self.eigen.values.dtype

    @property
    def kind(self) -> str:
        """What the block is, in a word."""
        return "(U (x) V) S (U (x) V)'"

    @property
    def block(self) -> Block:
        """The block, multiplied."""
        rotation = self.eigen.basis.rotation()
        values = jnp.reshape(self.eigen.values, rotation.wrt_shape)
        return star(star(rotation, Block.diag(values)), rotation.T)

    def matvec(self, tangent: jax.Array) -> jax.Array:
        """The block times an array of the parameter's shape."""
        basis = self.eigen.basis
        return basis.variable(self.eigen.values * basis.coordinates(tangent))

    def diagonal(self) -> jax.Array:
        """The diagonal of the block, of the parameter's shape."""
        return self.eigen.basis.diagonal(self.eigen.values)

    def solver(self, damping: Any) -> Eigen:
        """A solver for the block with damping."""
        return Eigen(self.eigen.basis, self.eigen.values + damping)


jax.tree_util.register_dataclass(Pair, ["left", "right"], ["left_axes", "right_axes", "both_axes"])
jax.tree_util.register_dataclass(Corrected, ["eigen"], [])
