"""Second derivatives: the Hessian as a planned elimination of the gradient's own graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from blockjac.answers import Jacobian
from blockjac.call import ArgNums, traced_call
from blockjac.chunks import in_chunks
from blockjac.planner import Order, Plan, check_order
from blockjac.plans import fitted, traced_once
from blockjac.transforms import answered, check_callable, check_dense, documented, jacobian


def hessian(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    order: Order | Plan | Sequence[int] = "auto",
    max_bytes: int | None = None,
    chunk_size: int | str | None = None,
) -> Callable[..., Any]:
    """The Hessian of a function, as `jax.hessian` gives it.

    The gradient is written down by elimination, traced, and eliminated again in an order of its
    own. Of two blocks that are each other's transpose (by one argument and another) one is
    computed.

    Args:
        fun: any JAX function; of several results each has its own Hessian.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        holomorphic: as in `jacobian`.
        order: of the elimination of the gradient's graph, as in `jacobian`.
        max_bytes: as in `jacobian`.
        chunk_size: as in `jacobian`.

    Returns:
        A function of the same arguments: the tree of `fun`'s result with, in place of each leaf,
        the tree of the arguments, in place of each leaf that tree again; leaves have shape
        `out.shape + in.shape + in'.shape`. With `has_aux`, `(hessian, aux)`.

    Raises:
        TypeError: as `jacobian`.
        ValueError: as `jacobian`.
        DenseTooLargeError: as `jacobian`.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0]))
        Array([[4., 2.],
               [2., 0.]], dtype=float32)
    """
    wanted = check_order(order)
    check_callable(fun, "hessian")
    inner = jacobian(fun, argnums, has_aux, holomorphic)

    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        call = traced_call(
            "hessian", inner, argnums, args, kwargs, has_aux=has_aux, holomorphic=holomorphic
        )
        call.check_results(holomorphic)
        check_dense(call, max_bytes, call.graph_name)
        question = Jacobian(
            call.count,
            call.smooth,
            fitted(wanted, call),
            dense=True,
            holomorphic=holomorphic,
            symmetric=_is_symmetric(call.inputs, call.results),
        )
        chunked = in_chunks(question, call.graph, max_bytes, chunk_size, call.graph_name)
        aux, rows = answered(chunked, call, call.arguments)
        answer = call.jacobian_tree(rows)
        return (answer, call.aux(aux)) if has_aux else answer

    made = hessian_of if has_aux else traced_once(hessian_of, wanted)
    return documented(made, fun, "Hessian", argnums)


def _is_symmetric(inputs: Sequence[Any], results: Sequence[Any]) -> bool:
    """Whether the results are derivatives by these inputs, which are all of one dtype.

    Of complex inputs the two blocks are conjugates, and not of holomorphic functions alone.
    """
    if not inputs or len(results) % len(inputs):
        return False
    dtypes = {one.dtype for one in (*inputs, *results)}
    return len(dtypes) == 1 and not jnp.issubdtype(dtypes.pop(), jnp.complexfloating)
