"""The public transforms, with the signatures, result trees and errors of their JAX namesakes."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block
from blockjac.blocks.dense import check_size
from blockjac.eliminate import (
    Edges,
    check_order,
    elemental,
    eliminate,
    evaluate,
    forward_order,
    identity_edges,
    read,
    reverse_order,
    useful_vertices,
)
from blockjac.errors import ArgumentError, BlockShapeError, DifferentiationTypeError
from blockjac.graph import Graph, Literal, Operand
from blockjac.plan import choose_order
from blockjac.program import run
from blockjac.rules.fallback import packed, real_dtype, unpacked, vertex_shape
from blockjac.trace import is_inexact, trace

ArgNums = int | Sequence[int]


def jacobian(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    order: str = "auto",
    max_bytes: int | None = None,
) -> Callable[..., Any]:
    """The dense Jacobian of a function, as `jax.jacrev` and `jax.jacfwd` give it.

    Args:
        fun: any JAX function of arrays and trees of arrays.
        argnums: which positional arguments to differentiate: an int, or a sequence of ints.
        has_aux: whether `fun` returns `(value, aux)`; aux is returned undifferentiated.
        holomorphic: whether `fun` is promised to be holomorphic; inputs and outputs must then be complex.
        allow_int: whether integer inputs are allowed; their Jacobian is zero, of dtype float0.
        order: the order of elimination: "reverse", "forward", "greedy", or "auto", the cheapest of these as predicted.
        max_bytes: refuse one result leaf of more bytes; default a share of the machine's memory.

    Returns:
        A function of the same arguments: the tree of `fun`'s result with, in place of each leaf, the tree of the argument,
        whose leaves are arrays of shape `out.shape + in.shape` and the input's dtype. With `has_aux`, `(jacobian, aux)`.

    Raises:
        TypeError: for integer inputs, for complex results without `holomorphic`, and for what is no array.
        ValueError: for `argnums` that do not fit the arguments.
        DenseTooLargeError: for a result over the limit.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.jacobian(lambda x: x[1:] * x[:-1])(jnp.array([1.0, 2.0, 3.0]))
        Array([[2., 1., 0.],
               [0., 3., 2.]], dtype=float32)
    """
    check_order(order)
    _check_callable(fun, "jacobian")

    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = _Call("jacobian", fun, argnums, args, kwargs, has_aux, holomorphic, allow_int)
        call.check_results(scalar=False)
        for value in call.results:
            for leaf in call.wrt:
                shape = (*value.shape, *leaf.shape)
                check_size(shape, leaf.dtype, max_bytes, "the dense Jacobian", "blockjac.block_jacobian keeps its structure")
        outs, rows = call.solve(order, "dense")
        del outs
        return call.with_aux(call.tree_of(rows))

    return _documented(jacobian_of, fun, "Jacobian", argnums)


def block_jacobian(
    fun: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False, *, order: str = "auto"
) -> Callable[..., Any]:
    """The Jacobian of a function with `Block` leaves, in the structure that it has.

    Args:
        fun: any JAX function of real arrays and trees of them.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        order: as in `jacobian`.

    Returns:
        A function of the same arguments that gives the tree of `jacobian`, each leaf a `Block`.

    Raises:
        TypeError: for integer and complex inputs or results.
        ValueError: for `argnums` that do not fit the arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> X, W = jnp.ones((5, 3)), jnp.ones((3, 2))
        >>> block = blockjac.block_jacobian(lambda X: X @ W)(X)
        >>> block.shape, block.stored
        ((5, 2, 5, 3), 6)
    """
    check_order(order)
    _check_callable(fun, "block_jacobian")

    def block_jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = _Call("block_jacobian", fun, argnums, args, kwargs, has_aux, False, False)
        call.check_results(scalar=False)
        if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in call.wrt):
            raise DifferentiationTypeError(
                "block_jacobian requires real-valued inputs, but got complex ones; for a holomorphic function use "
                "blockjac.jacobian with holomorphic=True, else differentiate with respect to real and imaginary parts"
            )
        _, rows = call.solve(order, "blocks")
        return call.with_aux(call.tree_of(rows))

    return _documented(block_jacobian_of, fun, "Block Jacobian", argnums)


def value_and_grad(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """The value and the gradient of a scalar function, as `jax.value_and_grad`.

    Args:
        fun: a JAX function with one real result of shape ().
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        holomorphic: as in `jacobian`.
        allow_int: as in `jacobian`.

    Returns:
        A function of the same arguments that gives `(value, gradient)`, the gradient in the tree, shapes and dtypes of the
        arguments; with `has_aux`, `((value, aux), gradient)`.

    Raises:
        TypeError: if the result is no real scalar, or an input is an integer.
        ValueError: for `argnums` that do not fit the arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.value_and_grad(lambda x: jnp.sum(x**2))(jnp.array([1.0, 2.0]))
        (Array(5., dtype=float32), Array([2., 4.], dtype=float32))
    """
    _check_callable(fun, "value_and_grad")

    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        call = _Call("grad", fun, argnums, args, kwargs, has_aux, holomorphic, allow_int)
        call.check_results(scalar=True)
        outs, rows = call.solve("auto", "dense")
        gradient = call.argument_tree(rows[0])
        return ((outs[0], call.aux(outs)) if has_aux else outs[0]), gradient

    return _documented(value_and_gradient, fun, "Value and gradient", argnums)


def grad(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """The gradient of a scalar function, as `jax.grad`.

    Args:
        fun: a JAX function with one real result of shape ().
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(value, aux)`.
        holomorphic: as in `jacobian`.
        allow_int: as in `jacobian`.

    Returns:
        A function of the same arguments that gives the gradient in their tree; with `has_aux`, `(gradient, aux)`.

    Raises:
        TypeError: if the result is no real scalar, or an input is an integer.
        ValueError: for `argnums` that do not fit the arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.grad(lambda x: jnp.sum(jnp.sin(x)))(jnp.zeros(2))
        Array([1., 1.], dtype=float32)
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, answer = both(*args, **kwargs)
        return (answer, value[1]) if has_aux else answer

    return _documented(gradient, fun, "Gradient", argnums)


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its pullback, as `jax.vjp`.

    Args:
        fun: any JAX function.
        primals: the point.
        has_aux: whether `fun` returns `(value, aux)`.

    Returns:
        `(value, pullback)`, or `(value, pullback, aux)`: the pullback takes a cotangent in the tree of the value and gives a tuple
        of cotangents, one an argument.

    Raises:
        ValueError: from the pullback, if a cotangent's tree differs.
        TypeError: from the pullback, if a cotangent's shape differs.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> value, pullback = blockjac.vjp(lambda x, y: x * y, 2.0, 3.0)
        >>> pullback(1.0)
        (Array(3., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    _check_callable(fun, "vjp")
    call = _Call("vjp", fun, tuple(range(len(primals))), primals, {}, has_aux, False, True, strict=False)
    outs = call.values()
    value = jax.tree.unflatten(call.out_tree, outs[: len(call.results)])

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        leaves, tree = jax.tree.flatten(cotangent)
        if tree != call.out_tree:
            raise BlockShapeError(
                f"the pullback needs a cotangent in the tree of the value, {call.out_tree}, but found {tree}"
            )
        for place, (leaf, wanted) in enumerate(zip(leaves, call.results, strict=True)):
            if tuple(np.shape(leaf)) != tuple(wanted.shape):
                raise DifferentiationTypeError(
                    f"the pullback needs cotangents of the value's shapes: leaf {place} is {tuple(np.shape(leaf))}, "
                    f"wanted {tuple(wanted.shape)}"
                )
        return call.argument_tree(call.pull(leaves))

    return (value, pullback, call.aux(outs)) if has_aux else (value, pullback)


def jvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
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

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.jvp(jnp.sin, (0.0,), (2.0,))
        (Array(0., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    _check_callable(fun, "jvp")
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise DifferentiationTypeError(
            "primal and tangent arguments to blockjac.jvp must be tuples or lists; "
            f"found {type(primals).__name__} and {type(tangents).__name__}."
        )
    call = _Call("jvp", fun, tuple(range(len(primals))), tuple(primals), {}, has_aux, False, True, strict=False)
    leaves, tree = jax.tree.flatten(tuple(tangents))
    if tree != jax.tree.structure(tuple(primals)):
        raise DifferentiationTypeError(
            "primal and tangent arguments to blockjac.jvp must have the same tree structure; "
            f"primals have {jax.tree.structure(tuple(primals))} whereas tangents have {tree}."
        )
    for place, (leaf, primal) in enumerate(zip(leaves, call.wrt, strict=True)):
        if tuple(np.shape(leaf)) != tuple(primal.shape):
            raise BlockShapeError(
                "blockjac.jvp called with different primal and tangent shapes: "
                f"leaf {place} is {tuple(primal.shape)} with a tangent of {tuple(np.shape(leaf))}"
            )
    outs, rates = call.push(leaves)
    count = len(call.results)
    value = jax.tree.unflatten(call.out_tree, outs[:count])
    tangent = jax.tree.unflatten(call.out_tree, rates)
    return (value, tangent, call.aux(outs)) if has_aux else (value, tangent)


def chain_rule(Dg: Any, Df: Any, var_shape: Sequence[int]) -> jax.Array:
    """The Jacobian of `g o f` from dense Jacobians: the contraction over all axes of the variable in between.

    Args:
        Dg: array of shape `(*out, *var_shape)`.
        Df: array of shape `(*var_shape, *wrt)`.
        var_shape: shape of the variable in between.

    Returns:
        An array of shape `(*out, *wrt)`.

    Raises:
        BlockShapeError: if an array does not carry the variable's axes; both shapes are named.

    Example:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> blockjac.chain_rule(jnp.ones((2, 3, 4)), jnp.ones((3, 4, 5)), (3, 4)).shape
        (2, 5)
    """
    Dg, Df, var_shape = jnp.asarray(Dg), jnp.asarray(Df), tuple(var_shape)
    rank = len(var_shape)
    if Dg.ndim < rank or Dg.shape[Dg.ndim - rank :] != var_shape or Df.shape[:rank] != var_shape:
        raise BlockShapeError(
            f"chain_rule over a variable of shape {var_shape} needs Dg to end and Df to begin with it, but Dg has shape "
            f"{Dg.shape} and Df has shape {Df.shape}"
        )
    return jnp.tensordot(Dg, Df, axes=rank)


@dataclass(eq=False)
class _Call:
    """One call of a transformed function: its arguments sorted, its trace, its answers put back into trees."""

    name: str
    fun: Callable[..., Any]
    argnums: ArgNums
    args: Sequence[Any]
    kwargs: dict[str, Any]
    has_aux: bool
    holomorphic: bool
    allow_int: bool
    strict: bool = True
    graph: Graph = field(init=False)
    arguments: list[Any] = field(init=False)
    wrt: list[Any] = field(init=False)
    results: list[Any] = field(init=False)
    out_tree: Any = field(init=False, default=None)
    aux_tree: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.positions = _positions(self.argnums, len(self.args), self.name)
        chosen = tuple(self.args[place] for place in self.positions)
        leaves, self.wrt_tree = jax.tree.flatten(chosen)
        for leaf in leaves:
            _check_input(leaf, self.name, self.holomorphic, self.allow_int)
        moving = [leaf if isinstance(leaf, jax.Array | np.ndarray) else jnp.asarray(leaf) for leaf in leaves]
        self.weak = [isinstance(leaf, int | float | complex) and not isinstance(leaf, np.generic) for leaf in leaves]
        others = [None if place in self.positions else argument for place, argument in enumerate(self.args)]
        rest, rest_tree = jax.tree.flatten((others, self.kwargs))
        is_array = [isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex) for leaf in rest]
        arrays = [leaf for leaf, flag in zip(rest, is_array, strict=True) if flag]
        self.wrt = moving
        self.smooth = [place for place, leaf in enumerate(moving) if is_inexact(leaf)]

        def flat(*parts: Any) -> list[Any]:
            own = jax.tree.unflatten(self.wrt_tree, parts[: len(moving)])
            given = iter(parts[len(moving) :])
            full, kwargs = jax.tree.unflatten(
                rest_tree, [next(given) if flag else leaf for leaf, flag in zip(rest, is_array, strict=True)]
            )
            for place, argument in zip(self.positions, own, strict=True):
                full[place] = argument
            return self._call(full, kwargs)

        self.arguments = [*leaves, *arrays]
        try:
            self.graph = trace(flat, self.arguments, self.smooth)
        except jax.errors.ConcretizationTypeError as error:
            error.add_note(
                f"blockjac.{self.name} traces the function, so that Python control flow cannot depend on array values: use "
                "jnp.where or jax.lax.cond, or pass the value as an int, bool or str, which stay Python values"
            )
            raise

    def _call(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        answer = self.fun(*args, **kwargs)
        auxiliary: list[Any] = []
        if self.has_aux:
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise DifferentiationTypeError(
                    "with has_aux=True the function must return a pair (value, aux), but it returned "
                    f"{type(answer).__name__}"
                )
            answer, aux = answer
            auxiliary, self.aux_tree = jax.tree.flatten(aux)
        leaves, self.out_tree = jax.tree.flatten(answer)
        for leaf in leaves:
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
                raise DifferentiationTypeError(
                    f"the result {leaf!r} of type {type(leaf)} is not a valid JAX type; return arrays or trees of arrays"
                )
        self.results = [jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
        return [*leaves, *auxiliary]

    # Checks

    def check_results(self, scalar: bool) -> None:
        """Raise unless the results can be differentiated.

        Raises:
            DifferentiationTypeError: in JAX's words, with what to do.
        """
        if scalar:
            if len(self.results) != 1 or self.out_tree != jax.tree.structure(0):
                raise DifferentiationTypeError(
                    f"Gradient only defined for scalar-output functions. Output was: a tree {self.out_tree}; "
                    "use blockjac.jacobian for several outputs"
                )
            if self.results[0].shape != ():
                raise DifferentiationTypeError(
                    "Gradient only defined for scalar-output functions. "
                    f"Output had shape: {self.results[0].shape}; use blockjac.jacobian for it"
                )
        for value in self.results:
            if self.holomorphic:
                if not jnp.issubdtype(value.dtype, jnp.complexfloating):
                    raise DifferentiationTypeError(
                        f"{self.name} with holomorphic=True requires outputs with complex dtype, but got {value.dtype.name}."
                    )
            elif jnp.issubdtype(value.dtype, jnp.complexfloating):
                raise DifferentiationTypeError(
                    f"{self.name} requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got "
                    f"{value.dtype.name}. For holomorphic differentiation, pass holomorphic=True. For differentiation of "
                    "non-holomorphic functions involving complex outputs, use blockjac.vjp directly."
                )
            elif not jnp.issubdtype(value.dtype, jnp.floating):
                raise DifferentiationTypeError(
                    f"{self.name} requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got "
                    f"{value.dtype.name}. For differentiation of functions with integer outputs, use blockjac.vjp directly."
                )

    # Answers

    def outputs(self) -> Sequence[Operand | Literal]:
        """The operands of the differentiated results, without aux."""
        return self.graph.outputs[: len(self.results)]

    def values(self) -> list[Any]:
        """The function's results and aux."""
        graph = self.graph

        def body(arguments: Sequence[Any], captured: Sequence[Any], extra: Sequence[Any]) -> Any:
            del extra
            values = evaluate(graph, arguments, captured)
            return [_result(output, values) for output in graph.outputs]

        return run(graph, self.arguments, (), body, "values")

    def solve(self, order: str, kind: str) -> tuple[list[Any], list[list[Any]]]:
        """The results and, for each result and input leaf, the Jacobian: dense arrays or Blocks."""
        graph, outputs, count = self.graph, self.outputs(), len(self.results)
        leaves = [graph.inputs[place] for place in range(len(self.wrt))]
        holomorphic, results, wrt = self.holomorphic, self.results, self.wrt

        def body(arguments: Sequence[Any], captured: Sequence[Any], extra: Sequence[Any]) -> Any:
            del extra
            values = evaluate(graph, arguments, captured)
            useful = useful_vertices(graph, outputs)
            edges = elemental(graph, values, useful)
            identity_edges(graph, edges, outputs, useful)
            chosen = choose_order(order, graph, edges, useful, kind == "dense")
            eliminate(edges, chosen)
            rows = []
            for place in range(count):
                row = []
                for leaf, value in zip(leaves, wrt, strict=True):
                    block = _answer(edges, leaf, place, results[place], value)
                    row.append(block if kind == "blocks" else _written(block, results[place], value, holomorphic))
                rows.append(row)
            return [_result(output, values) for output in graph.outputs], rows

        goal = (kind, order, holomorphic, count, len(leaves))
        return run(graph, self.arguments, (), body, goal)

    def pull(self, cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of the input leaves."""
        graph, outputs, results, wrt = self.graph, self.outputs(), self.results, self.wrt
        leaves = [graph.inputs[place] for place in range(len(wrt))]
        live = [place for place, value in enumerate(results) if jnp.issubdtype(value.dtype, jnp.inexact)]

        def body(arguments: Sequence[Any], captured: Sequence[Any], extra: Sequence[Any]) -> Any:
            values = evaluate(graph, arguments, captured)
            useful = useful_vertices(graph, outputs)
            edges = elemental(graph, values, useful)
            for place, given in zip(live, extra, strict=True):
                output = outputs[place]
                if isinstance(output, Operand) and output.vertex in useful:
                    cotangent = jnp.asarray(given, results[place].dtype)
                    edges.add(output.vertex, ("out", 0), Block.from_dense(packed(jnp.conj(cotangent)), 0))
            eliminate(edges, reverse_order(graph, useful))
            return [_cotangent(edges, leaf, value) for leaf, value in zip(leaves, wrt, strict=True)]

        given = [cotangents[place] for place in live]
        answers = run(graph, self.arguments, given, body, ("pull", len(results)))
        return [
            answer if is_inexact(value) else np.zeros(value.shape, jax.dtypes.float0)
            for answer, value in zip(answers, wrt, strict=True)
        ]

    def push(self, tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The results and their tangents."""
        graph, outputs, results, wrt = self.graph, self.outputs(), self.results, self.wrt
        moving = self.smooth

        def body(arguments: Sequence[Any], captured: Sequence[Any], extra: Sequence[Any]) -> Any:
            values = evaluate(graph, arguments, captured)
            useful = useful_vertices(graph, outputs)
            edges = elemental(graph, values, useful)
            identity_edges(graph, edges, outputs, useful)
            for place, given in zip(moving, extra, strict=True):
                tangent = packed(jnp.asarray(given, wrt[place].dtype))
                edges.add("tangent", graph.inputs[place], Block.from_dense(tangent, tangent.ndim))
            eliminate(edges, [*graph.active, *forward_order(graph, useful)])
            rates = []
            for place, value in enumerate(results):
                edge = edges.leaving.get("tangent", {}).get(("out", place))
                shape = jax.ShapeDtypeStruct(vertex_shape(value), real_dtype(value.dtype))
                dense = jnp.zeros(shape.shape, shape.dtype) if edge is None else _block(edge).dense().astype(shape.dtype)
                rates.append(unpacked(dense, value.dtype))
            return [_result(output, values) for output in graph.outputs], rates

        outs, rates = run(graph, self.arguments, [tangents[place] for place in moving], body, ("push", len(results)))
        rates = [
            rate if jnp.issubdtype(value.dtype, jnp.inexact) else np.zeros(value.shape, jax.dtypes.float0)
            for rate, value in zip(rates, results, strict=True)
        ]
        return outs, rates

    # Trees

    def argument_tree(self, row: Sequence[Any]) -> Any:
        """Leaves put back into the tree of the differentiated arguments: one argument's, or a tuple of them."""
        tree = jax.tree.unflatten(self.wrt_tree, row)
        return tree[0] if isinstance(self.argnums, int) or hasattr(self.argnums, "__index__") else tree

    def tree_of(self, rows: Sequence[Sequence[Any]]) -> Any:
        """Rows put into the tree of the results, each the tree of the arguments."""
        return jax.tree.unflatten(self.out_tree, [self.argument_tree(row) for row in rows])

    def aux(self, outs: Sequence[Any]) -> Any:
        """The auxiliary output."""
        return jax.tree.unflatten(self.aux_tree, outs[len(self.results) :])

    def with_aux(self, answer: Any) -> Any:
        """The answer, with aux beside it where the function has one."""
        return (answer, self.aux(self.values())) if self.has_aux else answer


def _result(output: Operand | Literal, values: Sequence[Any]) -> Any:
    return jnp.asarray(read(output, values), output.aval.dtype) if isinstance(output, Literal) else values[output.value]


def _block(edge: Any) -> Block:
    return edge if isinstance(edge, Block) else edge.block()


def _answer(edges: Edges, leaf: int, place: int, result: Any, value: Any) -> Block:
    edge = edges.leaving.get(leaf, {}).get(("out", place))
    if edge is None:
        dtype = real_dtype(value.dtype) if is_inexact(value) else jnp.result_type(float)
        return Block.zeros(vertex_shape(result), vertex_shape(value), dtype)
    return _block(edge)


def _written(block: Block, result: Any, value: Any, holomorphic: bool) -> Any:
    """The dense Jacobian of a block of real vertices, complex where the variable is."""
    if not is_inexact(value):
        return np.zeros((*result.shape, *value.shape), jax.dtypes.float0)
    dense = block.dense(max_bytes=2**62)
    if not jnp.issubdtype(value.dtype, jnp.complexfloating):
        return dense.astype(value.dtype)
    if holomorphic:
        by_real = jnp.take(dense, 0, axis=len(result.shape) + 1)
        return jax.lax.complex(by_real[0], by_real[1])
    axis = len(result.shape)
    return jax.lax.complex(jnp.take(dense, 0, axis=axis), -jnp.take(dense, 1, axis=axis))


def _cotangent(edges: Edges, leaf: int, value: Any) -> Any:
    if not is_inexact(value):
        return jnp.zeros(value.shape)
    edge = edges.leaving.get(leaf, {}).get(("out", 0))
    if edge is None:
        return jnp.zeros(value.shape, value.dtype)
    return jnp.conj(unpacked(_block(edge).dense(max_bytes=2**62), value.dtype)).astype(value.dtype)


def _positions(argnums: ArgNums, count: int, name: str) -> tuple[int, ...]:
    try:
        given = tuple(map(operator.index, argnums)) if isinstance(argnums, Sequence) else (operator.index(argnums),)
    except TypeError:
        raise DifferentiationTypeError(f"argnums must be an int or a sequence of ints, but {argnums!r} was given") from None
    for place in given:
        if not -count <= place < count:
            raise ArgumentError(
                f"differentiating with respect to argnums={argnums} requires at least "
                f"{place + 1 if place >= 0 else -place} positional arguments to be passed by the caller of {name}, but got "
                f"only {count} positional arguments."
            )
    return tuple(place % count for place in given)


def _check_input(leaf: Any, name: str, holomorphic: bool, allow_int: bool) -> None:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
        raise DifferentiationTypeError(
            f"{name} requires arrays or numbers as differentiated arguments, but got {leaf!r} of type {type(leaf)}, which is "
            "not a valid JAX type; name the arguments to differentiate with argnums"
        )
    dtype = jnp.result_type(leaf)
    if holomorphic and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise DifferentiationTypeError(
            f"{name} with holomorphic=True requires inputs with complex dtype, but got {dtype.name}."
        )
    if not jnp.issubdtype(dtype, jnp.inexact) and not allow_int:
        raise DifferentiationTypeError(
            f"{name} requires real- or complex-valued inputs (input dtype that is a sub-dtype of np.inexact), but got "
            f"{dtype.name}. If you want to use Boolean- or integer-valued inputs, use vjp or set allow_int to True."
        )


def _check_callable(fun: Any, name: str) -> None:
    if not callable(fun):
        raise DifferentiationTypeError(f"Expected a callable value for blockjac.{name}, got {fun!r} of type {type(fun)}")


def _documented(function: Callable[..., Any], fun: Callable[..., Any], what: str, argnums: ArgNums) -> Callable[..., Any]:
    """Give the transformed function the name and signature of the original, and a docstring that says what it is."""
    name = getattr(fun, "__name__", type(fun).__name__)
    function.__name__ = name
    function.__qualname__ = getattr(fun, "__qualname__", name)
    function.__doc__ = (
        f"{what} of {name} with respect to positional argument(s) {argnums}. Takes the same arguments as {name}."
    )
    function.__wrapped__ = fun  # pyright: ignore[reportFunctionMemberAccess]
    try:
        function.__signature__ = inspect.signature(fun)  # pyright: ignore[reportFunctionMemberAccess]
    except (TypeError, ValueError):  # some builtins have none
        return function
    return function
