"""The public transforms, with the signatures, result trees and errors of their JAX namesakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.extend import source_info_util

from blockjac.engine.arguments import ArgNums
from blockjac.engine.call import Call
from blockjac.engine.chunk_sizes import ChunkSize, in_chunks
from blockjac.engine.computations import Jacobian
from blockjac.planning import Order
from blockjac.transforms.block_results import gives_blocks, of_blocks
from blockjac.transforms.shell import Ask, Asked, P, Transform
from blockjac.transforms.traced_once import Orders

source_info_util.register_exclusion(__file__)  # the place of an equation is the user's line


def jacobian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    order: Orders = "auto",
    max_bytes: int | None = None,
    chunk_size: ChunkSize = None,
) -> Callable[P, Any]:
    """The dense Jacobian of a function, as `jax.jacrev` and `jax.jacfwd` give it.

    Args:
        fun: any JAX function of arrays and trees of arrays.
        argnums: which positional arguments to differentiate: an int, or a sequence of ints.
        has_aux: whether `fun` returns `(value, aux)`; aux is returned undifferentiated.
        holomorphic: whether `fun` is promised to be holomorphic; inputs and outputs must then be
            complex.
        allow_int: whether integer inputs are allowed; their Jacobian is zero, of dtype float0.
        order: the order of elimination: "reverse", "forward", "greedy", "auto" (the cheapest of
            these in predicted time), "search" or a `Search`, the vertices that a plan prints, each
            once, a function that finds them, or a `Plan`: then the function is traced once for its
            shapes, as under `jax.jit`.
        max_bytes: of memory, arguments and result included; default a share of the machine's. What
            would take more is computed in chunks where that makes it fit, and refused otherwise.
        chunk_size: how many rows (or columns, where these are fewer) to compute in one pass; "auto"
            for as many as fit in `max_bytes`. By default all together, where they fit.

    Returns:
        A function of the same arguments: the tree of `fun`'s result with, in place of each leaf,
        the tree of the argument, whose leaves are arrays of shape `out.shape + in.shape` and the
        input's dtype (its complex counterpart for complex results of real inputs). With
        `has_aux`, `(jacobian, aux)`.

    Raises:
        TypeError: for integer inputs, for complex results of complex inputs without `holomorphic`,
            and for anything that is not an array.
        ValueError: for `argnums` that do not fit the arguments.
        DenseTooLargeError: for what does not fit in the limit; says what it needs.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.jacobian(lambda x: x[1:] * x[:-1])(jnp.array([1.0, 2.0, 3.0]))
        Array([[2., 1., 0.],
               [0., 3., 2.]], dtype=float32)
    """
    options = argnums, has_aux, order, holomorphic, allow_int
    return Transform("jacobian", "Jacobian", fun, *options)(dense_rows(max_bytes, chunk_size))


def value_and_jacobian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    order: Orders = "auto",
    max_bytes: int | None = None,
    chunk_size: ChunkSize = None,
) -> Callable[P, tuple[Any, Any]]:
    """The value of a function and its dense Jacobian, from one evaluation.

    Args:
        fun: as in `jacobian`.
        argnums: as in `jacobian`.
        has_aux: whether `fun` returns `(value, aux)`.
        holomorphic: as in `jacobian`.
        allow_int: as in `jacobian`.
        order: as in `jacobian`.
        max_bytes: as in `jacobian`.
        chunk_size: as in `jacobian`.

    Returns:
        A function of the same arguments that gives `(value, jacobian)`; with `has_aux`,
        `((value, aux), jacobian)`, as `jax.value_and_grad` has it.

    Raises:
        TypeError: as `jacobian`.
        ValueError: as `jacobian`.
        DenseTooLargeError: as `jacobian`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> value, J = blockjac.value_and_jacobian(lambda x: x[1:] * x[:-1])(jnp.arange(3.0))
        >>> value
        Array([0., 2.], dtype=float32)
        >>> J
        Array([[1., 0., 0.],
               [0., 2., 1.]], dtype=float32)
    """
    name, description = "value_and_jacobian", "Value and Jacobian"
    options = argnums, has_aux, order, holomorphic, allow_int
    transform = Transform(name, description, fun, *options, with_value=True)
    return transform(dense_rows(max_bytes, chunk_size, values=True))


def dense_rows(
    max_bytes: int | None, chunk_size: ChunkSize, values: bool = False, second: bool = False
) -> Ask:
    """Asks for a dense Jacobian.

    Args:
        max_bytes: as in `jacobian`.
        chunk_size: as in `jacobian`.
        values: whether to give the values too.
        second: whether it is that of a first derivative, which may be symmetric.
    """

    def asked(call: Call, order: Order) -> Asked:
        """The dense Jacobian, in chunks if it would not fit otherwise."""
        call.check_results(complex_of_real=not second)
        symmetric = second and call.is_symmetric
        computation = Jacobian(
            call.count, call.smooth, order, True, call.holomorphic, values, symmetric
        )
        chunked = in_chunks(computation, call, max_bytes, chunk_size)
        return chunked, _put(call, call.jacobian_tree, values)

    return asked


def _put(call: Call, tree_of: Callable[[Any], Any], values: bool) -> Callable[[Any], Any]:
    """What puts rows into a tree; with the values, both `(values, rows)`."""
    return (lambda answer: (call.value(answer[0]), tree_of(answer[1]))) if values else tree_of


def block_jacobian(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    order: Orders = "auto",
    require_structure: bool = False,
) -> Callable[P, Any]:
    """The Jacobian of a function with `Block` leaves, in the structure that it has.

    Args:
        fun: any JAX function of real arrays and trees of them; its results may be complex.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        order: as in `jacobian`.
        require_structure: whether to raise where structure would be lost on the way: by an equation
            of which nothing is known, a loop or branches that carry it in one array, or a sum of
            terms that is written out. What is dense by nature loses nothing. `blockjac.plan` tells
            of the same places without raising.

    Returns:
        A function of the same arguments that gives the tree of `jacobian`, each leaf a `Block`.
        Of a function that gives Blocks, as `block_jacobian(fun)` does, the derivative of a Block is
        one with the axes of both, as of its dense array.

    Raises:
        TypeError: for integer and complex inputs, and for integer results.
        ValueError: for `argnums` that do not fit the arguments.
        StructureLostError: with `require_structure`; names the equations, their lines, and what to
            do.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, W = jnp.ones((5, 3)), jnp.ones((3, 2))
        >>> block = blockjac.block_jacobian(lambda X: X @ W)(X)
        >>> block.shape, block.stored
        ((5, 2, 5, 3), 6)

        A step over a ring keeps no band in a loop whose number of steps is not known:

        >>> import jax
        >>> smooth = lambda x: x + 0.1 * (jnp.roll(x, 1) - x)
        >>> several = lambda x: jax.lax.while_loop(lambda x: x[0] < 3, smooth, x)
        >>> try:
        ...     blockjac.block_jacobian(several, require_structure=True)(jnp.ones(100))
        ... except blockjac.errors.StructureLostError as error:
        ...     [(loss.primitive, loss.stored) for loss in error.losses]
        [('while', 10000)]
    """
    options = argnums, has_aux, order
    transform = Transform(
        "block_jacobian", "Block Jacobian", fun, *options, require_structure=require_structure
    )
    return transform(_blocks)


def _blocks(call: Call, order: Order) -> Asked:
    if gives_blocks(call):
        return of_blocks(call, order)
    call.check_real(complex_results=True)
    return Jacobian(call.count, call.smooth, order, dense=False), call.jacobian_tree


def value_and_grad(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[P, tuple[Any, Any]]:
    """The value and the gradient of a scalar function, as `jax.value_and_grad`.

    Args:
        fun: a JAX function with one real result of shape ().
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        holomorphic: as in `jacobian`.
        allow_int: as in `jacobian`.

    Returns:
        A function of the same arguments that gives `(value, gradient)`, the gradient in the tree,
        shapes and dtypes of the arguments; with `has_aux`, `((value, aux), gradient)`.

    Raises:
        TypeError: if the result is not a real scalar, or an input is an integer.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.value_and_grad(lambda x: jnp.sum(x**2))(jnp.array([1.0, 2.0]))
        (Array(5., dtype=float32), Array([2., 4.], dtype=float32))
    """
    name, description = "value_and_grad", "Value and gradient"
    options = argnums, has_aux, "reverse", holomorphic, allow_int
    return Transform(name, description, fun, *options, with_value=True)(_gradient(values=True))


def _gradient(values: bool) -> Ask:
    """Asks for a gradient, with or without the value."""

    def asked(call: Call, order: Order) -> Asked:
        call.check_scalar()
        call.check_results()
        computation = Jacobian(1, call.smooth, order, True, call.holomorphic, values)
        return computation, _put(call, call.gradient_tree, values)

    return asked


def grad(
    fun: Callable[P, Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[P, Any]:
    """The gradient of a scalar function, as `jax.grad`.

    Args:
        fun: a JAX function with one real result of shape ().
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        holomorphic: as in `jacobian`.
        allow_int: as in `jacobian`.

    Returns:
        A function of the same arguments that gives the gradient in their tree; with `has_aux`,
        `(gradient, aux)`.

    Raises:
        TypeError: if the result is not a real scalar, or an input is an integer.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.grad(lambda x: jnp.sum(jnp.sin(x)))(jnp.zeros(2))
        Array([1., 1.], dtype=float32)
    """
    options = argnums, has_aux, "reverse", holomorphic, allow_int
    return Transform("grad", "Gradient", fun, *options)(_gradient(values=False))
