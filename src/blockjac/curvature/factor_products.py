"""Products of `J' H J` from its factors, each one compiled program."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra.dense import dense
from blockjac.algebra.star import star_along
from blockjac.base.caches import Cache
from blockjac.base.trees import flattened
from blockjac.blocks import Block, BlockMatrix, add, star
from blockjac.planning.jaxpr_cost import operations
from blockjac.transforms.linearization import Linearization


def upper_half(jacobian: BlockMatrix, inner: BlockMatrix) -> list[list[Block]]:
    """The blocks of `J' H J` on and above the diagonal."""
    left = list(zip(*jacobian.rows, strict=True))
    right = list(zip(*(inner @ jacobian).rows, strict=True))
    return [
        [
            functools.reduce(
                add, (star(a.T, b) for a, b in zip(left_column, right_column, strict=True))
            )
            for right_column in right[index:]
        ]
        for index, left_column in enumerate(left)
    ]


upper_half_compiled = jax.jit(upper_half)


@jax.jit
def product(jacobian: BlockMatrix, inner: BlockMatrix, tangent: Any) -> Any:
    """`J' H J v` by the blocks of J."""
    return jacobian.T.matvec(inner.matvec(jacobian.matvec(tangent)))


@jax.jit
def swept(linearization: Linearization, inner: BlockMatrix, tangent: Any) -> Any:
    """`J' H J v` by a sweep forwards and one backwards."""
    pushed = linearization.pushed(jax.tree.leaves(tangent))
    product = inner.matvec(jax.tree.unflatten(inner.wrt_tree, pushed))
    pulled = linearization.pulled(jax.tree.leaves(product))
    return jax.tree.unflatten(linearization.wrt_tree, pulled)


def is_cheaper(jacobian: BlockMatrix, linearization: Linearization) -> bool:
    """Whether a product with the blocks takes fewer operations than the two sweeps."""
    structs = jax.tree.map(_struct, (jacobian, linearization))
    leaves, tree = flattened(structs)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)

    def compared() -> bool:
        """Trace both, and count."""
        inputs = [jax.ShapeDtypeStruct(s, jacobian.dtype) for s in linearization.wrt_shapes]
        outputs = [jax.ShapeDtypeStruct(s, jacobian.dtype) for s in jacobian.out_shapes]

        def by_blocks(blocks: BlockMatrix, x: list[Any], y: list[Any]) -> Any:
            tangent = jax.tree.unflatten(blocks.wrt_tree, x)
            cotangent = jax.tree.unflatten(blocks.out_tree, y)
            return blocks.matvec(tangent), blocks.T.matvec(cotangent)

        def by_sweeps(linear: Linearization, x: list[Any], y: list[Any]) -> Any:
            return linear.pushed(x), linear.pulled(y)

        blocks = operations(jax.make_jaxpr(by_blocks)(structs[0], inputs, outputs))
        sweeps = operations(jax.make_jaxpr(by_sweeps)(structs[1], inputs, outputs))
        return blocks.seconds() < sweeps.seconds()

    return _comparisons.made((tree, shapes), compared)


_comparisons: Cache[bool] = Cache("products compared", 64)


def _struct(array: Any) -> Any:
    """The shape and dtype of an array."""
    return jax.ShapeDtypeStruct(jnp.shape(array), jnp.result_type(array))


@jax.jit
def diagonals_of(jacobian: BlockMatrix, inner: BlockMatrix) -> list[jax.Array]:
    """The diagonals of the blocks on the diagonal, of which no other entry is computed."""
    left = zip(*jacobian.rows, strict=True)
    right = zip(*(inner @ jacobian).rows, strict=True)
    parts: list[jax.Array] = []
    for shape, left_column, right_column in zip(jacobian.wrt_shapes, left, right, strict=True):
        pairs = [(axis, axis) for axis in range(len(shape))]
        products = (
            star_along(a.T, b, pairs) for a, b in zip(left_column, right_column, strict=True)
        )
        parts.append(dense(functools.reduce(add, products)))
    return parts
