"""Gauss-Newton matrices: `J' H J` kept in its three factors until someone multiplies.

`J` is the Jacobian of a model's outputs by its parameters and `H` the second derivative of the loss
by the outputs. For a layer `X W` the block of `J` is `X[n,i] B[n,c,h]`, the Khatri-Rao product of
inputs and backpropagated outputs, and is never multiplied out: products with vectors, diagonals and
damped solutions come from the factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.backend import planning
from blockjac.base.arrays import Shape
from blockjac.base.compat import is_traced
from blockjac.blocks import Block, BlockMatrix
from blockjac.blocks.grids import Rows, mirrored
from blockjac.blocks.known_places import with_known_places
from blockjac.blocks.system_checks import checked_damping
from blockjac.blocks.systems import forms, solver_of
from blockjac.curvature import by_outputs
from blockjac.curvature.factor_products import (
    diagonals_of,
    is_cheaper,
    product,
    swept,
    upper_half,
    upper_half_compiled,
)
from blockjac.errors import BlockShapeError
from blockjac.linear_systems import choose, direct
from blockjac.linear_systems.batched import split
from blockjac.linear_systems.solver import Solver
from blockjac.transforms.linearization import Linearization
from blockjac.transforms.traced_once import Function

Middle = Callable[[Function, Any, Any], BlockMatrix]
"""From the loss, the targets and the outputs to the matrix between `J'` and `J`."""


Parts = tuple[BlockMatrix | None, Linearization | None, BlockMatrix]
"""`J` in blocks, `J` as a linear map, and `H`."""


class GaussNewton(BlockMatrix):
    """The matrix `J' H J` of a model and a loss, in its factors.

    It is a `BlockMatrix` whose blocks (`rows`, indexing, `dense()`, `to_scipy()`) are multiplied
    when they are first asked for, one of each pair of mirror images. `matvec`, `diagonal` and
    `solve` with damping need none of them. `matvec` of a matrix from `blockjac.ggn` needs not even
    J: it is a sweep through the model forwards, and one backwards. J in blocks is computed when it
    is first asked for, and products then go by it where that takes fewer operations.

    With damping, `solve` and `blockjac.factorize` work in the space of the outputs where that is
    predicted to be faster, and the matrix of the parameters is never formed; otherwise, and without
    damping, as the structure of the multiplied blocks allows. A damping that is traced (an argument
    of `jit`) is taken to be positive.

    Attributes:
        inner: `H`, of the outputs by the outputs, a symmetric `BlockMatrix`.

    Raises:
        BlockShapeError: if the shapes of the two do not fit.
    """

    def __init__(self, jacobian: BlockMatrix, inner: BlockMatrix) -> None:
        if inner.out_shapes != jacobian.out_shapes or inner.wrt_shapes != jacobian.out_shapes:
            raise BlockShapeError(
                f"J' H J needs H of the outputs {jacobian.out_shapes} twice, but found one of "
                f"{inner.out_shapes} by {inner.wrt_shapes}"
            )
        self._hold(jacobian, None, inner)

    @staticmethod
    def of(jacobian: BlockMatrix | Linearization, inner: BlockMatrix) -> GaussNewton:
        """The matrix of a Jacobian in blocks, or of one that is a linear map until it is asked.

        Args:
            jacobian: `J`.
            inner: `H`, of the outputs by the outputs, a symmetric `BlockMatrix`.
        """
        if isinstance(jacobian, BlockMatrix):
            return GaussNewton(jacobian, inner)
        matrix = object.__new__(GaussNewton)
        matrix._hold(None, jacobian, inner)
        return matrix

    def _hold(
        self,
        jacobian: BlockMatrix | None,
        linearization: Linearization | None,
        inner: BlockMatrix,
    ) -> None:
        """Take the factors as they are, with the shapes and the tree that follow from them."""
        self._jacobian, self._linearization, self.inner = jacobian, linearization, inner
        source = cast("Linearization", linearization) if jacobian is None else jacobian
        self.out_shapes = self.wrt_shapes = source.wrt_shapes
        self.out_tree = self.wrt_tree = source.wrt_tree
        self.dtype = np.dtype(source.dtype)
        self.is_mirrored = True
        self._multiplied: Rows | None = None

    def parts(self) -> tuple[Parts, None]:
        """What JAX takes the matrix to be made of: its leaves are arrays."""
        return (self._jacobian, self._linearization, self.inner), None

    @staticmethod
    def of_parts(_: None, parts: Sequence[Any]) -> GaussNewton:
        """The matrix from its parts, without the checks of the constructor."""
        matrix = object.__new__(GaussNewton)
        jacobian, linearization, inner = parts
        if isinstance(jacobian, BlockMatrix) or isinstance(linearization, Linearization):
            matrix._hold(jacobian, linearization, inner)
        else:  # JAX also rebuilds trees of placeholders
            matrix._jacobian, matrix._linearization = jacobian, linearization
            matrix.inner = inner
        return matrix

    @property
    def jacobian(self) -> BlockMatrix:
        """`J` in blocks; computed when it is first asked for, and kept unless JAX traces."""
        if self._jacobian is not None:
            return self._jacobian
        jacobian = cast("Linearization", self._linearization).blocks()
        if not is_traced(jacobian):
            self._jacobian = jacobian
        return jacobian

    def in_blocks(self) -> GaussNewton:
        """The matrix with its Jacobian in blocks alone."""
        if self._linearization is None:
            return self
        return GaussNewton(self.jacobian, self.inner)

    @property
    def rows(self) -> Rows:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks, multiplied; kept, but for those that belong to a trace."""
        if self._multiplied is not None:
            return self._multiplied
        upper = cast("list[list[Block]]", upper_half_compiled(self.jacobian, self.inner))
        rows = tuple(map(tuple, mirrored(upper)))
        if not is_traced(upper):
            self._multiplied = rows
        return rows

    @property
    def is_multiplied(self) -> bool:
        """Whether the blocks are there already."""
        return self._multiplied is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""
        return self.jacobian.nbytes + self.inner.nbytes

    @property
    def batch_shape(self) -> Shape:
        """Leading axes that an outer `vmap` has put in front of every leaf; usually ()."""
        source = self._linearization if self._jacobian is None else self._jacobian
        return max(cast("Any", source).batch_shape, self.inner.batch_shape, key=len)

    def _applied(self, tangent: Any) -> Any:
        """By sweeps through the model, or by the blocks of J if these are there and cheaper."""
        jacobian, linearization = self._jacobian, self._linearization
        if linearization is not None and (
            jacobian is None or not is_cheaper(jacobian, linearization)
        ):
            return cast("Any", swept)(linearization, self.inner, tangent)
        return cast("Any", product)(jacobian, self.inner, tangent)

    def _diagonals(self) -> list[jax.Array]:
        return cast("Any", diagonals_of)(self.jacobian, self.inner)

    def leverage(self, damping: Any = 0.0) -> Any:
        """The generalized leverage of each output: the diagonal of `J (J' H J + s)^-1 J' H`.

        It is what the prediction for an output changes by, to first order, when the target of that
        output alone changes by 1 and the model is fitted anew; for a linear model with squared
        errors it is exact. Its sum is the effective number of parameters.

        Args:
            damping: s, not negative; a number or an array of shape ().

        Returns:
            A tree like the model's outputs.

        Raises:
            InvalidOptionError: for a damping that is not a number, or below 0.

        Source:
            Wei, Hu and Fung, "Generalized leverage and its applications", Scandinavian Journal of
            Statistics 25, 1998.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> model = lambda w, X: X @ w
            >>> loss = lambda Y, Q: 0.5 * jnp.sum((Q - Y) ** 2)
            >>> X = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
            >>> leverage = blockjac.ggn(model, loss)(jnp.zeros(2), X, jnp.zeros(3)).leverage()
            >>> [round(float(value), 3) for value in leverage]
            [0.5, 0.5, 1.0]
        """
        is_damped = checked_damping(self, damping, "leverage")
        shift = jnp.asarray(damping, self.dtype)
        parts = with_known_places(_leverages, self.in_blocks(), shift, is_damped=is_damped)
        return jax.tree.unflatten(self.jacobian.out_tree, parts)

    def own_solver(self, damping: Any, assume: Any) -> Solver | None:
        """A solver by systems of the size of the outputs, if that is predicted to be faster.

        Without damping it would need `J' H J` to be regular, which it is not where there are more
        parameters than outputs.
        """
        if damping is None:
            return None
        outputs, parameters = self.jacobian.shape
        if direct.seconds(outputs) > direct.seconds(parameters):
            return None
        seconds = self.seconds_by(damping, assume)
        if seconds["blocks"] <= seconds["outputs"]:
            return None
        return by_outputs.factored(self.jacobian, self.inner, damping)

    def seconds_by(self, damping: Any, assume: Any = "gen") -> dict[str, float]:
        """About how long a damped solution takes by each way, as the plans predict it.

        Args:
            damping: s in `J' H J + s`, positive.
            assume: as in `blockjac.factorize`.

        Returns:
            Seconds for `"blocks"`, to multiply the blocks and factor them, and for `"outputs"`,
            systems of the size of the outputs: infinite where there are more of these than
            parameters.
        """
        jacobian = self.jacobian
        if direct.seconds(jacobian.shape[0]) > direct.seconds(jacobian.shape[1]):
            outputs = math.inf
        else:
            outputs = by_outputs.seconds(jacobian)
        with planning() as cost:
            rows = mirrored(upper_half(jacobian, self.inner))
            system = choose.way(choose.damped(rows, damping), assume)
        return {"blocks": cost.seconds() + system.seconds, "outputs": outputs}

    def __repr__(self) -> str:
        factors = (
            " | ".join(", ".join(block.structure for block in row) for row in matrix.rows)
            for matrix in (self.jacobian, self.inner)
        )
        return "GaussNewton(J=[{}], H=[{}])".format(*factors)


def _leverages(matrix: GaussNewton, shift: Any, *, is_damped: bool) -> list[jax.Array]:
    """The diagonal of `J (J' H J + s)^-1 J' H`, by outputs or parameters as the solver is."""
    solver = solver_of(matrix, shift, is_damped=is_damped).solver
    J, H = matrix.jacobian, matrix.inner
    if not isinstance(solver, by_outputs.ByOutputs):
        return forms((matrix, shift, solver), J, H @ J)
    gram, inner = (J @ J.T).dense(), H.dense()
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    solved = cast("jax.Array", jnp.linalg.solve(shift * identity + inner @ gram, inner))
    leverages = jnp.sum(gram * solved.T, axis=1)
    return split(leverages, J.out_shapes)


jax.tree_util.register_pytree_node(GaussNewton, GaussNewton.parts, GaussNewton.of_parts)
