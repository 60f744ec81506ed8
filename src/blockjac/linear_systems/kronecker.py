"""Systems whose matrix is a Kronecker product: one smaller system per factor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from blockjac.base.arrays import Shape
from blockjac.linear_systems.groups import Rows
from blockjac.linear_systems.solver import Solver, pytree
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.index import Label
from blockjac.terms.term import Term


@dataclass(frozen=True)
class Group:
    """The axes that a factor of the product joins.

    Attributes:
        out: the output axes.
        wrt: the input axes, whose sizes have the same product.
    """

    out: tuple[int, ...]
    wrt: tuple[int, ...]


@pytree("groups", "out_shape", "wrt_shape")
@dataclass(frozen=True, eq=False)
class Kronecker(Solver):
    """A Kronecker product of square matrices over groups of axes.

    Attributes:
        solvers: one per group.
        groups: the axes of each factor.
        out_shape: the output shape of the product.
        wrt_shape: the input shape of the product.
    """

    solvers: Sequence[Solver]
    groups: tuple[Group, ...]
    out_shape: Shape
    wrt_shape: Shape

    def solve(self, right: jax.Array, transposed: bool = False) -> jax.Array:
        """Solve with one factor after the other, for all indices of the other axes at once."""
        shape, target = self.out_shape, self.wrt_shape
        sides = [(group.out, group.wrt) for group in self.groups]
        if transposed:
            shape, target = target, shape
            sides = [(wrt, out) for out, wrt in sides]
        known_axes = [axis for known, _ in sides for axis in known]
        tensor = jnp.transpose(jnp.reshape(right, shape), known_axes)
        sizes = [math.prod(shape[axis] for axis in known) for known, _ in sides]
        tensor = jnp.reshape(tensor, sizes)
        for position, solver in enumerate(self.solvers):
            front = jnp.moveaxis(tensor, position, 0)
            columns = jnp.reshape(front, (sizes[position], -1))
            solved = solver.solve_columns(columns, transposed)
            tensor = jnp.moveaxis(jnp.reshape(solved, front.shape), 0, position)
        axes = [axis for _, unknown in sides for axis in unknown]
        tensor = jnp.reshape(tensor, [target[axis] for axis in axes])
        return jnp.ravel(jnp.transpose(tensor, [axes.index(axis) for axis in range(len(axes))]))

    def slogdet(self) -> tuple[jax.Array, jax.Array]:
        """The product over the factors, each to the power of the size of the others."""
        size = math.prod(self.out_shape)
        sign, logarithm = jnp.asarray(1.0), jnp.asarray(0.0)
        for solver, group in zip(self.solvers, self.groups, strict=True):
            power = size // math.prod(self.out_shape[axis] for axis in group.out)
            factor_sign, factor_logarithm = solver.slogdet()
            sign = sign * factor_sign**power
            logarithm = logarithm + power * factor_logarithm
        return sign, logarithm

    def inverse_diagonal(self) -> jax.Array:
        """The outer product of the inverse diagonals of the factors, with the axes in order."""
        values = [solver.inverse_diagonal() for solver in self.solvers]
        axes = [axis for group in self.groups for axis in group.out]
        product = values[0]
        for part in values[1:]:
            product = jnp.ravel(product)[:, None] * part
        tensor = jnp.reshape(product, [self.out_shape[axis] for axis in axes])
        return jnp.ravel(jnp.transpose(tensor, [axes.index(axis) for axis in range(len(axes))]))

    def inverse(self, shapes: Sequence[Shape]) -> Rows | None:
        """The Kronecker product of the inverses of the factors."""
        (shape,) = shapes
        inverses: list[Block] = []
        for solver, group in zip(self.solvers, self.groups, strict=True):
            rows = solver.inverse([tuple(shape[axis] for axis in group.out)])
            if rows is None:
                return None
            inverses.append(rows[0][0])
        axes = [axis for group in self.groups for axis in group.out]
        order = [axes.index(axis) for axis in range(len(axes))]
        terms: list[Term] = []
        for chosen in itertools.product(*(block.terms for block in inverses)):
            out = [index for term in chosen for index in term.out]
            wrt = [index for term in chosen for index in term.wrt]
            factors = tuple(factor for term in chosen for factor in term.factors)
            coefficient = math.prod(term.coefficient for term in chosen)
            left, right = (tuple(side[position] for position in order) for side in (out, wrt))
            terms.append(Term(factors, left, right, coefficient))
        return [[rebuilt(shape, shape, inverses[0].dtype, terms)]]

    @property
    def unknowns(self) -> int:
        """The number of unknowns."""
        return math.prod(self.out_shape)

    def describe(self) -> str:
        """How each factor is solved."""
        return (
            "Kronecker product of ("
            + ") and (".join(solver.describe() for solver in self.solvers)
            + ")"
        )


def groups_of(block: Block) -> list[tuple[Group, Block]] | None:
    """The factors of a Kronecker product, or None if the block has another structure.

    Each factor joins the same axes on both sides, so that it is a square matrix on them.
    """
    if len(block.terms) != 1 or block.out_shape != block.wrt_shape:
        return None
    (term,) = block.terms
    plain = (index.is_plain(size) for index, size in zip(term.indices, block.shape, strict=True))
    if not all(plain):
        return None
    result: list[tuple[Group, Block]] = []
    for position, labels in enumerate(term.label_groups):
        out = tuple(axis for axis, index in enumerate(term.out) if _meets(index.labels, labels))
        wrt = tuple(axis for axis, index in enumerate(term.wrt) if _meets(index.labels, labels))
        if out != wrt:
            return None
        factors = tuple(factor for factor in term.factors if _meets(factor.labels, labels))
        shape = tuple(block.out_shape[axis] for axis in out)
        coefficient = term.coefficient if position == 0 else 1
        joined = Term(
            factors,
            tuple(term.out[axis] for axis in out),
            tuple(term.wrt[axis] for axis in wrt),
            coefficient,
        )
        result.append((Group(out, wrt), rebuilt(shape, shape, block.dtype, [joined])))
    unit = [axis for axis, size in enumerate(block.out_shape) if size == 1]
    numbers = [factor for factor in term.factors if not factor.labels]
    return result if len(result) > 1 and not unit and not numbers else None


def _meets(labels: Sequence[Label], group: set[Label]) -> bool:
    """Whether any of the labels is in the group."""
    return not group.isdisjoint(labels)
