"""The public transforms, with the signatures, result trees and errors of their JAX namesakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util

from blockjac.base.arrays import as_shape
from blockjac.engine.arguments import ArgNums, Call, check_callable, leaf_name, traced_call
from blockjac.engine.chunked import ChunkSize, in_chunks
from blockjac.engine.computations import Jacobian, Pullback, Pushforward, Values
from blockjac.engine.leaves import dtype_of, float0_zeros, is_array, is_real_array
from blockjac.errors import BlockShapeError, DifferentiationTypeError
from blockjac.graph.linearity import is_inexact
from blockjac.planning import Order
from blockjac.transforms.shell import (
    Ask,
    Asked,
    Function,
    Orders,
    P,
    Transform,
    answered,
    traced_once,
)

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
            once, or a `Plan`: then the function is traced once for its shapes, as under `jax.jit`.
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
    name, what = "value_and_jacobian", "Value and Jacobian"
    options = argnums, has_aux, order, holomorphic, allow_int
    transform = Transform(name, what, fun, *options, with_value=True)
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
    return (lambda found: (call.value(found[0]), tree_of(found[1]))) if values else tree_of


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
        TypeError: if the result is no real scalar, or an input is an integer.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.value_and_grad(lambda x: jnp.sum(x**2))(jnp.array([1.0, 2.0]))
        (Array(5., dtype=float32), Array([2., 4.], dtype=float32))
    """
    name, what = "value_and_grad", "Value and gradient"
    options = argnums, has_aux, "reverse", holomorphic, allow_int
    return Transform(name, what, fun, *options, with_value=True)(_gradient(values=True))


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
        TypeError: if the result is no real scalar, or an input is an integer.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.grad(lambda x: jnp.sum(jnp.sin(x)))(jnp.zeros(2))
        Array([1., 1.], dtype=float32)
    """
    options = argnums, has_aux, "reverse", holomorphic, allow_int
    return Transform("grad", "Gradient", fun, *options)(_gradient(values=False))


def vjp(fun: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its pullback, as `jax.vjp`.

    Args:
        fun: any JAX function.
        primals: the point.
        has_aux: whether `fun` returns `(value, aux)`.

    Returns:
        `(value, pullback)`, or `(value, pullback, aux)`: the pullback takes a cotangent in the tree
        of the value and gives a tuple of cotangents, one an argument.

    Raises:
        TypeError: for primals and results that are no arrays.
        ValueError: from the pullback, if a cotangent's tree, shape or dtype differs.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> value, pullback = blockjac.vjp(lambda x, y: x * y, 2.0, 3.0)
        >>> pullback(1.0)
        (Array(3., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    check_callable(fun, "vjp")
    everything = tuple(range(len(primals)))
    call = traced_call("vjp", fun, everything, primals, {}, has_aux=has_aux, allow_int=True)
    outs, kept = answered(Values(call.count, keep=True), call)

    # A pytree of the kept values, as JAX's is, so that it may leave jit and vmap.
    static = replace(call, arguments=(), graph=replace(call.graph, captured=[]))
    name = getattr(fun, "__name__", type(fun).__name__)
    pullback = jax.tree_util.Partial(partial(_pulled_back, static, name), kept)
    value = call.value(outs)
    if not has_aux:
        return value, pullback
    return value, pullback, call.auxiliary(outs[call.count :]).tree()


def jvp(
    fun: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """The value of a function and its directional derivative, as `jax.jvp`.

    Args:
        fun: any JAX function.
        primals: a tuple or list with the point.
        tangents: the direction, in the tree and shapes of `primals`.
        has_aux: whether `fun` returns `(value, aux)`.

    Returns:
        `(value, tangent)`, or `(value, tangent, aux)`.

    Raises:
        TypeError: if primals and tangents differ in tree or shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.jvp(jnp.sin, (0.0,), (2.0,))
        (Array(0., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    check_callable(fun, "jvp")
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise DifferentiationTypeError(
            "primal and tangent arguments to blockjac.jvp must be tuples or lists; "
            f"found {type(primals).__name__} and {type(tangents).__name__}."
        )
    primals, tangents = tuple(primals), tuple(tangents)
    check_tangents("jvp", fun, primals, tangents)

    def moved(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        everything = tuple(range(len(primals)))
        call = traced_call("jvp", fun, everything, primals, {}, has_aux=has_aux, allow_int=True)
        given = _moving(jax.tree.leaves(tangents), call.inputs)
        outs, rates = answered(Pushforward(call.count, call.smooth), call, extra=given)
        moving = iter(rates)
        tangent = call.value(
            [next(moving) if is_inexact(out) else float0_zeros(out.shape) for out in call.results]
        )
        return (call.value(outs), tangent), call.auxiliary(outs[call.count :])

    (value, tangent), aux = traced_once(moved, "forward", fun)(primals, tangents)
    return (value, tangent, aux.tree()) if has_aux else (value, tangent)


def chain_rule(Dg: Any, Df: Any, var_shape: int | Sequence[int]) -> jax.Array:
    """The dense Jacobian of `g o f`: the contraction over all axes of the variable in between.

    Args:
        Dg: array of shape `(*out, *var_shape)`.
        Df: array of shape `(*var_shape, *wrt)`.
        var_shape: shape of the variable in between; as in NumPy, `n` is `(n,)`.

    Returns:
        An array of shape `(*out, *wrt)`.

    Raises:
        BlockShapeError: if an array does not carry the variable's axes; both shapes are named.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.chain_rule(jnp.ones((2, 3, 4)), jnp.ones((3, 4, 5)), (3, 4)).shape
        (2, 5)
    """
    Dg, Df, var_shape = jnp.asarray(Dg), jnp.asarray(Df), as_shape(var_shape)
    rank = len(var_shape)
    if Dg.ndim < rank or Dg.shape[Dg.ndim - rank :] != var_shape or Df.shape[:rank] != var_shape:
        raise BlockShapeError(
            f"chain_rule over a variable of shape {var_shape} needs Dg to end and Df to begin with "
            f"it, but Dg has shape {Dg.shape} and Df has shape {Df.shape}"
        )
    return jnp.tensordot(Dg, Df, axes=rank)


def _pulled_back(call: Call, name: str, kept: list[Any], *cotangents: Any) -> tuple[Any, ...]:
    """The answer of a pullback: one cotangent an argument."""
    if len(cotangents) != 1:
        raise DifferentiationTypeError(
            f"The function returned by blockjac.vjp applied to {name} was called with "
            f"{len(cotangents)} arguments, but must be called with a single one, the cotangent of "
            "the value: for a function that returns a tuple, one tuple"
        )
    given = _cotangents(call, cotangents[0])
    rows = answered(Pullback(call.count, call.smooth), call, kept, given)
    return call.argument_tree(rows)


def _cotangents(call: Call, cotangent: Any) -> list[Any]:
    """The leaves of a cotangent that belong to float and complex results, checked."""
    leaves, tree = jax.tree.flatten(cotangent)
    if tree != call.record.out_tree:
        raise BlockShapeError(
            "unexpected tree structure: the pullback needs a cotangent in the tree of the value, "
            f"{call.record.out_tree}, but found {tree}"
        )
    for place, (leaf, wanted) in enumerate(zip(leaves, call.results, strict=True)):
        if np.shape(leaf) != wanted.shape or (is_inexact(wanted) and not _same_type(leaf, wanted)):
            raise BlockShapeError(
                "unexpected JAX type (e.g. shape/dtype) for argument to VJP function: leaf "
                f"{place} is {_described(leaf)}, but must be {_described(wanted)} as the value is"
            )
    return _moving(leaves, call.results)


def check_tangents(
    name: str, fun: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> None:
    """Raise unless the tangents have the tree, dtypes and shapes of the primals.

    Args:
        name: of the transform that was called.
        fun: the user's function, for the names of its arguments.
        primals: the point.
        tangents: the direction.

    Raises:
        DifferentiationTypeError: for another tree or dtype.
        BlockShapeError: for another shape.
    """
    leaves, tree = jax.tree.flatten(tangents)
    points, wanted_tree = jax.tree.flatten(primals)
    if tree != wanted_tree:
        raise DifferentiationTypeError(
            f"primal and tangent arguments to blockjac.{name} must have the same tree structure; "
            f"primals have {wanted_tree} whereas tangents have {tree}."
        )
    for place, (leaf, point) in enumerate(zip(leaves, points, strict=True)):
        both_real = is_real_array(point) and is_real_array(leaf)
        if both_real and (point.dtype, point.shape) == (leaf.dtype, leaf.shape):
            continue
        if not is_array(point):
            continue  # the call names it
        primal = jax.ShapeDtypeStruct(np.shape(point), dtype_of(point))
        if not _same_type(leaf, primal):
            wanted = primal.dtype.name if is_inexact(primal) else "float0"
            raise DifferentiationTypeError(
                f"primal and tangent arguments to blockjac.{name} do not match; dtypes must be "
                "equal, or in case of int/bool primal dtype the tangent dtype must be float0: "
                f"{leaf_name(fun, primals, place)}: leaf {place} is {_described(primal)} and its "
                f"tangent {_described(leaf)}, wanted {wanted}"
            )
        if np.shape(leaf) != primal.shape:
            raise BlockShapeError(
                f"blockjac.{name} called with different primal and tangent shapes: "
                f"{leaf_name(fun, primals, place)}: leaf {place} is {_described(primal)} with a "
                f"tangent {_described(leaf)}"
            )


def _moving(leaves: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """The leaves that belong to float and complex values."""
    return [leaf for leaf, aval in zip(leaves, avals, strict=True) if is_inexact(aval)]


def _same_type(leaf: Any, wanted: Any) -> bool:
    """Whether a (co)tangent has the dtype that a value's must have; Python floats fit any."""
    if not is_inexact(wanted):
        return getattr(leaf, "dtype", None) == jax.dtypes.float0
    if isinstance(leaf, float | complex) and not isinstance(leaf, np.generic):
        return jnp.result_type(leaf, wanted.dtype) == wanted.dtype
    return dtype_of(leaf) == wanted.dtype


def _described(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    name = type(value).__name__ if dtype is None else np.dtype(dtype).name
    return f"{name}[{','.join(map(str, np.shape(value)))}]"
