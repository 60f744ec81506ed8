"""Second derivatives: Hessians as planned eliminations of the gradient's own graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.answers import Arrays, Jacobian
from blockjac.blocks import BlockMatrix
from blockjac.blocks.losses import keeping_lines
from blockjac.call import ArgNums, Auxiliary, check_inputs, traced_call
from blockjac.chunks import in_chunks
from blockjac.errors import ArgumentError
from blockjac.graph import Graph
from blockjac.planner import Order, Plan, check_order
from blockjac.plans import fitted, transformed
from blockjac.trace import named_as
from blockjac.transforms import (
    answered,
    check_callable,
    check_dense,
    check_require_structure,
    check_tangents,
    documented,
    grad,
    jacobian,
    jvp,
)

Pairs = str | Collection[tuple[int, int]]
"""Which blocks of a Hessian: "all", "diagonal", or some by the numbers of their leaves."""


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

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0]))
        Array([[4., 2.],
               [2., 0.]], dtype=float32)
    """
    wanted = check_order(order)
    check_callable(fun, "hessian")

    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        inner = jacobian(fun, argnums, has_aux, holomorphic)
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
        return call.jacobian_tree(rows), call.auxiliary(aux)

    return documented(transformed(hessian_of, wanted, fun, has_aux), fun, "Hessian", argnums)


def block_hessian(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    pairs: Pairs = "all",
    order: Order | Plan | Sequence[int] = "auto",
    require_structure: bool = False,
) -> Callable[..., Any]:
    """The Hessian of a function with one number as its result, as a grid of Blocks.

    Row and column of the grid are the leaves of the differentiated arguments; each block keeps the
    structure that it has. Of two blocks that are each other's transpose one is computed.

    Args:
        fun: any JAX function of real arrays and trees of them, with a result of shape ().
        argnums: which positional arguments to differentiate by.
        has_aux: whether `fun` returns `(value, aux)`.
        pairs: which blocks: "all", "diagonal" for those of each leaf by itself, or pairs of leaves
            by number, `(i, j)` with its mirror image. The others are not computed and come as zero
            blocks.
        order: of the elimination of the gradient's graph, as in `jacobian`.
        require_structure: whether to raise where structure would be lost, as in `block_jacobian`.

    Returns:
        A function of the same arguments that gives a `BlockMatrix`: `matrix[i, j]` is the Block of
        leaves i and j, `matrix.tree()` the tree of `jax.hessian` with Blocks as leaves. With
        `has_aux`, `(matrix, aux)`.

    Raises:
        TypeError: if the result is no real number, and for integer and complex inputs.
        ValueError: for `argnums` that do not fit the arguments, and pairs that do not exist.
        StructureLostError: with `require_structure`; names the equations, their lines, and what to
            do.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> matrix = blockjac.block_hessian(lambda x: jnp.sum(x[1:] * x[:-1] ** 2))(jnp.ones(1000))
        >>> matrix[0, 0].nnz, matrix[0, 0].stored
        (2997, 2997)
        >>> matrix.to_scipy().shape
        (1000, 1000)
    """
    wanted = check_order(order)
    check_callable(fun, "block_hessian")
    _check_pairs(pairs)
    check_require_structure(require_structure)

    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        inner = grad(fun, argnums, has_aux)
        with keeping_lines(require_structure):
            call = traced_call("block_hessian", inner, argnums, args, kwargs, has_aux=has_aux)
        call.check_real_inputs()
        symmetric = _is_symmetric(call.inputs, call.results)
        question = Jacobian(
            call.count,
            call.smooth,
            fitted(wanted, call),
            dense=False,
            symmetric=symmetric,
            unasked=_unasked(pairs, call.count),
        )
        tree = jax.tree.structure(call.argument_tree(range(call.count)))
        asked = UpperHalf(question) if symmetric else question
        aux, rows = answered(asked, call, call.arguments, require_structure=require_structure)
        matrix = BlockMatrix.symmetric(rows, tree) if symmetric else BlockMatrix(rows, tree, tree)
        return matrix, call.auxiliary(aux)

    made = transformed(hessian_of, wanted, fun, has_aux)
    return documented(made, fun, "Block Hessian", argnums)


def hvp(
    fun: Callable[..., Any], params: Any, vector: Any, *args: Any, has_aux: bool = False
) -> Any:
    """The product of a function's Hessian with a vector, forwards over the gradient.

    Args:
        fun: a JAX function `fun(params, *args)` with one real result of shape ().
        params: the point, a tree of real arrays.
        vector: the direction, in the tree, shapes and dtypes of `params`.
        args: further arguments of the function, which are not differentiated.
        has_aux: whether `fun` returns `(value, aux)`.

    Returns:
        A tree like `params`; with `has_aux`, `(product, aux)`.

    Raises:
        TypeError: if the result is no real number, for integer and complex parameters, and if the
            trees or dtypes differ.
        ValueError: if shapes differ.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
        >>> blockjac.hvp(lambda x: x[0] ** 2 * x[1], x, v)
        Array([4., 2.], dtype=float32)
    """
    check_callable(fun, "hvp")
    check_tangents("hvp", fun, (params,), (vector,))
    check_inputs("hvp", fun, 0, (params,))

    def product_of(params: Any, vector: Any, args: tuple[Any, ...]) -> Any:
        gradient = grad(fun, has_aux=has_aux)
        moved = named_as(fun, lambda params: gradient(params, *args))
        _, product, *aux = jvp(moved, (params,), (vector,), has_aux)
        return product, Auxiliary.of(aux[0] if aux else None)

    return transformed(product_of, "forward", fun, has_aux)(params, vector, args)


# What is asked of the gradient's graph


@dataclass(frozen=True)
class UpperHalf:
    """The blocks on and above the diagonal of a symmetric Jacobian."""

    jacobian: Jacobian

    @property
    def keeps_structure(self) -> bool:
        """Whether the answer's structure may depend on constants of the program."""
        return self.jacobian.keeps_structure

    def __call__(self, graph: Graph, arguments: Arrays, captured: Arrays, extra: Arrays) -> Any:
        """`(results, rows)` with, of each row, the blocks from the diagonal on."""
        aux, rows = self.jacobian(graph, arguments, captured, extra)
        return aux, [row[place:] for place, row in enumerate(rows)]


def _unasked(pairs: Pairs, count: int) -> frozenset[tuple[int, int]]:
    """The pairs of leaves whose block is not asked for."""
    every = {(row, column) for row in range(count) for column in range(count)}
    if pairs == "all":
        return frozenset()
    given = ((leaf, leaf) for leaf in range(count)) if pairs == "diagonal" else pairs
    asked = {(row, column) for row, column in given}
    if not asked <= every:
        raise _no_pairs(pairs, f", each between 0 and {count - 1}")
    return frozenset(every - asked - {(column, row) for row, column in asked})


def _check_pairs(pairs: Any) -> None:
    """Raise unless these are pairs in a form that can be read."""
    if isinstance(pairs, str) and pairs in ("all", "diagonal"):
        return
    several = isinstance(pairs, Iterable) and not isinstance(pairs, str)
    if not several or not all(isinstance(one, Sequence) and len(one) == 2 for one in pairs):
        raise _no_pairs(pairs, "")


def _no_pairs(pairs: Any, between: str) -> ArgumentError:
    return ArgumentError(
        f"pairs is {pairs!r}, but must be 'all', 'diagonal', or pairs (i, j) of leaves by number"
        f"{between}"
    )


def _is_symmetric(inputs: Sequence[Any], results: Sequence[Any]) -> bool:
    """Whether the results are derivatives by these inputs, which are all of one dtype.

    Of complex inputs the two blocks are conjugates, and not of holomorphic functions alone.
    """
    if not inputs or len(results) % len(inputs):
        return False
    dtypes = {one.dtype for one in (*inputs, *results)}
    return len(dtypes) == 1 and not jnp.issubdtype(dtypes.pop(), jnp.complexfloating)
