"""The Jacobian of each example's result by its own input, without the zeros between examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blockjac.algebra.dense import along, dense
from blockjac.blocks import Block
from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.engine.computations import Arrays, Jacobian
from blockjac.engine.finish import NO_LIMIT
from blockjac.errors import BlockShapeError
from blockjac.graph.graph import Graph
from blockjac.planning import Order
from blockjac.transforms.shell import Asked, P, Transform
from blockjac.transforms.traced_once import Orders


def batch_jacobian(
    fun: Callable[P, Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: Orders = "auto"
) -> Callable[P, Any]:
    """The Jacobian of each example's result by its own input, without the zeros between examples.

    Args:
        fun: a JAX function whose results and differentiated arguments all have the examples on
            their first axis, and no example's result depends on another's input.
        argnums: which positional arguments to differentiate by.
        has_aux: whether `fun` returns `(value, aux)`; the answer is then `(answer, aux)`.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the same arguments that gives the tree of `blockjac.jacobian`, with leaves of
        shape `(N, *out.shape[1:], *in.shape[1:])`.

    Raises:
        ValueError: if the first axes differ, or one example's result depends on another's input.
        TypeError: for integer and complex inputs or results.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> W = jnp.array([[1.0, 2.0], [0.0, 1.0]])
        >>> J = blockjac.batch_jacobian(lambda X: (X @ W) ** 2)(jnp.ones((5, 2)))
        >>> J.shape
        (5, 2, 2)
        >>> J[0]
        Array([[ 2.,  0.],
               [12.,  6.]], dtype=float32)
    """
    transform = Transform("batch_jacobian", "Batch Jacobian", fun, argnums, has_aux, order)
    return transform(_batches)


def _batches(call: Call, order: Order) -> Asked:
    call.check_real(complex_results=True)
    _check_examples(call)
    blocks = Jacobian(call.count, call.smooth, order, dense=False)
    return Batches(blocks, call.graph_name), call.jacobian_tree


@dataclass(frozen=True)
class Batches:
    """The blocks of a Jacobian at the entries of one example each.

    Attributes:
        jacobian: which Jacobian.
        name: of the function, for messages to the user.
    """

    jacobian: Jacobian
    name: str

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """The auxiliary results; and rows of arrays `(N, *out, *in)`."""
        aux, rows = self.jacobian(graph, arguments, captured, extra)
        return aux, [[self._of(block) for block in row] for row in rows]

    def _of(self, block: Block) -> Any:
        """The entries of a block at one example each, an array; raises where examples meet."""
        for term in block.terms:
            result_index, input_index = term.out[0], term.wrt[0]
            if result_index == input_index:
                continue
            does = (
                "may depend (its places are run-time values)" if input_index.lookup else "depends"
            )
            raise BlockShapeError(
                f"batch_jacobian needs examples apart on the first axes, but a result of "
                f"{self.name!r} of shape {block.out_shape} {does} on other examples of an input "
                f"of shape {block.wrt_shape}: {block.structure}; use block_jacobian, which keeps "
                "whatever structure there is"
            )
        return dense(along(block, [(0, 0)]), max_bytes=NO_LIMIT)


def _check_examples(call: Call) -> None:
    """Raise unless all results and inputs have the same number of examples on their first axis."""
    shapes = [tuple(aval.shape) for aval in (*call.results, *call.inputs)]
    if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        count = call.count
        raise BlockShapeError(
            "batch_jacobian needs the examples on the first axis of every result and every "
            f"differentiated input, but found results of {shapes[:count]} and inputs of "
            f"{shapes[count:]}"
        )
