"""Second derivatives: Hessians by elimination of the gradient's graph, or of the function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Literal, cast

from blockjac.base.trees import tree_structure
from blockjac.blocks import BlockMatrix
from blockjac.engine.arguments import ArgNums, check_callable, check_inputs
from blockjac.engine.auxiliary import Auxiliary
from blockjac.engine.call import Call
from blockjac.engine.chunk_sizes import ChunkSize
from blockjac.engine.computations import Jacobian
from blockjac.errors import ArgumentError
from blockjac.graph.trace import named_as
from blockjac.planning import Order
from blockjac.transforms.first_order import dense_rows, grad, jacobian
from blockjac.transforms.products import jvp
from blockjac.transforms.shell import Ask, Asked, P, Transform
from blockjac.transforms.symmetric_way import symmetric_way
from blockjac.transforms.tangents import check_tangents
from blockjac.transforms.traced_once import Function, Orders, traced_once

Pairs = Literal["all", "diagonal"] | Collection[tuple[int, int]]
"""Which blocks of a Hessian: "all", "diagonal", or some by the numbers of their leaves."""


def hessian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    order: Orders = "auto",
    max_bytes: int | None = None,
    chunk_size: ChunkSize = None,
) -> Callable[P, Any]:
    """The Hessian of a function, as `jax.hessian` gives it.

    The gradient is written down by elimination, traced, and eliminated again in an order of its
    own; or the function is eliminated symmetrically, each product with its mirror image once, where
    that is predicted to be faster. Of two blocks that are each other's transpose (by one argument
    and another) one is computed.

    Args:
        fun: any JAX function; of several results each has its own Hessian.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        holomorphic: as in `jacobian`.
        order: "auto" for the faster of both ways; any other is of the elimination of the gradient's
            graph, as in `jacobian`.
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
    options = argnums, has_aux, order, holomorphic
    names = "hessian", "Hessian"
    rival = symmetric_way if max_bytes is None and chunk_size is None else None
    transform = Transform(*names, fun, *options, derivative=jacobian, rival=rival)
    return transform(dense_rows(max_bytes, chunk_size, second=True))


def block_hessian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    pairs: Pairs = "all",
    order: Orders = "auto",
    require_structure: bool = False,
) -> Callable[P, Any]:
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
        TypeError: if the result is not a real number, and for integer and complex inputs.
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
    _check_pairs(pairs)
    options = argnums, has_aux, order
    transform = Transform(
        "block_hessian",
        "Block Hessian",
        fun,
        *options,
        derivative=grad,
        require_structure=require_structure,
        rival=None if require_structure else symmetric_way,
    )
    return transform(_grid(pairs))


def _grid(pairs: Pairs) -> Ask:
    """Asks a gradient for the Blocks of its Jacobian, of mirror images for the upper one."""

    def asked(call: Call, order: Order) -> Asked:
        """The grid of Blocks that are wanted, of a symmetric matrix only its upper half."""
        call.check_real_inputs()
        symmetric, unasked = call.is_symmetric, _unasked(pairs, call.count)
        computation = Jacobian(
            call.count, call.smooth, order, dense=False, symmetric=symmetric, unasked=unasked
        )
        tree = tree_structure(call.argument_tree(range(call.count)))
        if symmetric:
            return computation, partial(BlockMatrix.symmetric, tree=tree)
        return computation, partial(BlockMatrix, out_tree=tree, wrt_tree=tree)

    return asked


def hvp(fun: Function, params: Any, vector: Any, *args: Any, has_aux: bool = False) -> Any:
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
        TypeError: if the result is not a real number, for integer and complex parameters, and if
            the trees or dtypes differ.
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
        """The product and the auxiliary result: the tangent of the gradient."""
        gradient = grad(fun, has_aux=has_aux)

        def moved(params: Any) -> Any:
            return gradient(params, *args)

        _, product, *aux = jvp(named_as(fun, moved), (params,), (vector,), has_aux)
        return product, Auxiliary.of(aux[0] if aux else None)

    product, aux = traced_once(product_of, "forward", fun)(params, vector, args)
    return (product, aux.tree()) if has_aux else product


def _unasked(pairs: Pairs, count: int) -> frozenset[tuple[int, int]]:
    """The pairs of leaves whose block is not asked for."""
    every = {(row, column) for row in range(count) for column in range(count)}
    if pairs == "all":
        return frozenset()
    leaf_pairs = ((leaf, leaf) for leaf in range(count)) if pairs == "diagonal" else pairs
    asked = {(row, column) for row, column in leaf_pairs}
    if not asked <= every:
        raise _no_pairs(pairs, f", each between 0 and {count - 1}")
    return frozenset(every - asked - {(column, row) for row, column in asked})


def _check_pairs(pairs: Any) -> None:
    """Raise unless these are pairs in a form that can be read."""
    if isinstance(pairs, str) and pairs in ("all", "diagonal"):
        return
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise _no_pairs(pairs, "")
    for pair in cast("Iterable[Any]", pairs):
        if not isinstance(pair, Sequence) or len(cast("Sequence[Any]", pair)) != 2:
            raise _no_pairs(pairs, "")


def _no_pairs(pairs: Any, between: str) -> ArgumentError:
    return ArgumentError(
        f"pairs is {pairs!r}, but must be 'all', 'diagonal', or pairs (i, j) of leaves by number"
        f"{between}"
    )
