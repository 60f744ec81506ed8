"""The matrix of a linear operator of lineax, with the structure that its program has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.trees import flattened
from blockjac.blocks import BlockMatrix, tree_vectors
from blockjac.errors import ArgumentError
from blockjac.graph.linearity import Kind, is_linear, kinds_of
from blockjac.transforms.first_order import block_jacobian


@dataclass(frozen=True)
class Vectors:
    """The trees of arrays that an operator takes or gives.

    Attributes:
        tree: their structure.
        leaves: the shape and dtype of each leaf.
    """

    tree: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @staticmethod
    def of(structure: Any) -> Vectors:
        """From what lineax says of an operator."""
        leaves, tree = flattened(structure)
        return Vectors(tree, tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves))

    @property
    def is_complex(self) -> bool:
        """Whether there is a complex leaf."""
        return any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in self.leaves)

    def rebuilt(self, vector: jax.Array) -> Any:
        """The tree that a flat vector holds."""
        tree = tree_vectors.tree(vector, [leaf.shape for leaf in self.leaves], self.tree)
        dtypes = jax.tree.unflatten(self.tree, [leaf.dtype for leaf in self.leaves])
        return jax.tree.map(jax.lax.convert_element_type, tree, dtypes)


def matrix_of(operator: Any, inputs: Vectors, outputs: Vectors) -> BlockMatrix:
    """The matrix of an operator, in blocks by leaves, or in one if it is square and they differ."""
    shapes = [[leaf.shape for leaf in vectors.leaves] for vectors in (inputs, outputs)]
    is_flat = shapes[0] != shapes[1] and operator.in_size() == operator.out_size()

    def product(*vectors: Any) -> list[Any]:
        """The product, from arrays to arrays."""
        vector = inputs.rebuilt(vectors[0]) if is_flat else jax.tree.unflatten(inputs.tree, vectors)
        product = operator.mv(vector)
        return [tree_vectors.flat(product)] if is_flat else jax.tree.leaves(product)

    zeros = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in inputs.leaves]
    zeros = [tree_vectors.flat(zeros)] if is_flat else zeros
    jacobian = block_jacobian(product, tuple(range(len(zeros))))
    _check_linear(product, jacobian, zeros)
    return BlockMatrix([list(row) for row in jacobian(*zeros)])


def _check_linear(product: Any, jacobian: Any, zeros: list[jax.Array]) -> None:
    """Raise if a function is not linear: if its Jacobian depends on where it is taken.

    Raises:
        ArgumentError: says so.
    """
    if is_linear(jax.make_jaxpr(product)(*zeros), [True] * len(zeros)):
        return

    def arrays(*vectors: Any) -> list[Any]:
        """The arrays of the blocks."""
        return jax.tree.leaves(jacobian(*vectors))

    kinds = kinds_of(jax.make_jaxpr(arrays)(*zeros), [Kind.LINEAR] * len(zeros), top=True)
    if not {Kind.CONSTANT, Kind.ZERO} >= set(kinds):
        raise ArgumentError(
            "the operator is not linear: the Jacobian of its mv depends on the vector that it "
            "multiplies. A nonlinear function is linearized first, at a point, by "
            "lineax.JacobianLinearOperator(fun, point)"
        )
