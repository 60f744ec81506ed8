"""Functions with a rule that their user wrote.

Such a function becomes a primitive that runs, batches and differentiates as the function does, and
whose elemental Jacobians come from the rule.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from blockjac.base import compat
from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term
from blockjac.errors import RuleError
from blockjac.rules import registry
from blockjac.rules.building import made, scaling
from blockjac.rules.validation import check_derivative, check_dtypes, check_elementwise, named

Axes = tuple[tuple[int | None, ...], ...]
"""For each `jax.vmap` around a call, the batch axis of each operand, the innermost first."""

ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)

FUNCTIONS: set[Primitive] = set()
"""The primitives that stand for users' functions."""

source_info_util.register_exclusion(__file__)  # calls are located at the caller's line

_taken = itertools.count(2)


def function_with_rule(
    function: Callable[..., Any], rule: Callable[..., Any]
) -> Callable[..., Any]:
    """A function that is called like the given one, and whose Jacobian comes from the rule.

    Args:
        function: of arrays and trees of them; keyword arguments are static.
        rule: `rule(out, *args, **keywords)` returns a tuple with one Block per argument: a tree of
            Blocks for a tree, None where the derivative is zero. If the result is a tree, the rule
            returns a tree of such tuples.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    if name in registry.RULES or name in registry.ZERO or name in registry.OPERATOR_RULES:
        name = f"{name}#{next(_taken)}"
    primitive = _primitive(function, name)
    registry.rule(name, multiple_results=True)(_structural(function, rule, name))

    @functools.wraps(function)
    def with_rule(*args: Any, **keywords: Any) -> Any:
        """Bind the primitive to the leaves of the arguments, and rebuild the tree of results."""
        leaves, tree = jax.tree.flatten(args)
        _check_arguments(name, leaves, keywords)
        static = tuple(sorted(keywords.items()))
        shape = jax.eval_shape(functools.partial(function, **keywords), *args)
        params = {"tree": tree, "static": static, "axes": ()}
        results = primitive.bind(*map(jnp.asarray, leaves), **params)
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return with_rule


def elementwise_rule(name: str, derivatives: Sequence[Callable[..., Any] | None]) -> Any:
    """The structural rule of an elementwise function from its derivatives, one per argument."""

    def rule(out: Any, *args: Any, **keywords: Any) -> tuple[Block | None, ...]:
        """`δ[i, i'] derivative[i]` for each argument."""
        if len(derivatives) != len(args):
            raise RuleError(
                f"the rule for {name!r} must give a derivative for each argument: "
                f"there are {len(args)}, but it gave {len(derivatives)}"
            )
        blocks = []
        for position, (derivative, operand) in enumerate(zip(derivatives, args, strict=True)):
            values = None
            if derivative is not None:
                check_elementwise(name, position, out, operand)
                values = derivative(out, *args, **keywords)
            if values is not None:
                check_derivative(name, values, position, out)
            blocks.append(None if values is None else scaling(out.shape, operand, values))
        return tuple(blocks)

    return rule


def _check_arguments(name: str, leaves: Sequence[Any], keywords: dict[str, Any]) -> None:
    """Raise unless positional arguments are arrays and keyword arguments hold none.

    Raises:
        RuleError: names the function and the argument that does not fit.
    """
    for leaf in leaves:
        if not isinstance(leaf, ARRAYS):
            raise RuleError(
                f"{name} takes arrays and trees of them, but found {leaf!r}; pass what is static "
                "as a keyword argument"
            )
    for key, value in keywords.items():
        if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value)):
            raise RuleError(
                f"keyword arguments of {name} are static, but {key} holds an array; pass it by "
                "position"
            )


# The primitive


def _primitive(function: Callable[..., Any], name: str) -> Primitive:
    """A new primitive that evaluates, batches, and differentiates as the function does.

    Args:
        function: of arrays and trees of them.
        name: of the primitive.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    def flat(*leaves: Any, tree: Any, static: Any, axes: Axes) -> list[Any]:
        """The function over flat operands, inside as many `jax.vmap` as there are `axes`."""

        def batched_function(*parts: Any) -> list[Any]:
            return jax.tree.leaves(function(*jax.tree.unflatten(tree, parts), **dict(static)))

        for batch_axes in axes:
            batched_function = jax.vmap(batched_function, in_axes=batch_axes)
        return batched_function(*leaves)

    def abstract(*avals: Any, **params: Any) -> list[Any]:
        structs = map(compat.struct, avals)
        return list(jax.make_jaxpr(functools.partial(flat, **params))(*structs).out_avals)

    def batched(args: Sequence[Any], dims: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        batch_axes = tuple(None if dim is None else int(dim) for dim in dims)
        results = primitive.bind(*args, **{**params, "axes": (*params["axes"], batch_axes)})
        return results, [0] * len(results)

    def pushed(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
        """JAX's derivative of the function, by those operands whose tangents are not zero."""
        active = [
            position
            for position, tangent in enumerate(tangents)
            if not isinstance(tangent, ad.Zero)
        ]

        def of_active(*parts: Any) -> list[Any]:
            operands = list(primals)
            for position, part in zip(active, parts, strict=True):
                operands[position] = part
            return flat(*operands, **params)

        point = tuple(primals[position] for position in active)
        return jax.jvp(of_active, point, tuple(tangents[position] for position in active))

    primitive.def_impl(flat)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(flat, multiple_results=True))
    batching.primitive_batchers[primitive] = batched
    ad.primitive_jvps[primitive] = pushed
    FUNCTIONS.add(primitive)
    return primitive


# The rule of the primitive


def _structural(
    function: Callable[..., Any], rule: Callable[..., Any], name: str
) -> Callable[..., Any]:
    """The rule over flat operands, applied example by example under `jax.vmap`."""

    def example_rows(outs: Sequence[Any], leaves: Sequence[Any], tree: Any, static: Any) -> Any:
        """The rows of blocks of a call outside of any `jax.vmap`, checked."""
        args, keywords = jax.tree.unflatten(tree, leaves), dict(static)
        shape = jax.eval_shape(functools.partial(function, **keywords), *args)
        out_tree = jax.tree.structure(shape)
        answer = named(name, rule)(jax.tree.unflatten(out_tree, outs), *args, **keywords)
        if answer is NotImplemented:
            return answer
        rows = [_row(name, tree, row) for row in _parts(name, "result", out_tree, answer)]
        for row in rows:
            check_dtypes(name, row, leaves)
        return rows

    def rows(outs: Any, leaves: Any, tree: Any, static: Any, axes: Axes) -> Any:
        """The rows of blocks of a call, with a delta for each batch axis of `jax.vmap`."""
        if not axes:
            return example_rows(outs, leaves, tree, static)
        *inner, batch = axes
        is_left_to_jax: list[bool] = []

        def example(outs: Any, leaves: Any) -> Any:
            answer = rows(outs, leaves, tree, static, tuple(inner))
            is_left_to_jax.append(answer is NotImplemented)
            return None if answer is NotImplemented else answer

        batched_rows = jax.vmap(example, in_axes=(0, list(batch)))(list(outs), list(leaves))
        if any(is_left_to_jax):
            return NotImplemented
        return [
            [
                None if block is None else _with_batch(block, out.shape[0], axis)
                for block, axis in zip(row, batch, strict=True)
            ]
            for row, out in zip(batched_rows, outs, strict=True)
        ]

    def structural(outs: Any, *leaves: Any, tree: Any, static: Any, axes: Axes) -> Any:
        return rows(outs, [*map(compat.jax_array, leaves)], tree, static, axes)

    return structural


def _parts(name: str, side: str, tree: Any, answer: Any) -> list[Any]:
    """The parts of a rule's answer, one for each leaf of a tree.

    Raises:
        RuleError: if the answer does not have the structure of the tree.
    """
    try:
        return tree.flatten_up_to(answer)
    except (TypeError, ValueError) as error:
        raise RuleError(
            f"the rule for {name!r} must give blocks in the tree of its {side}, {tree}, "
            f"but gave {type(answer).__name__}: {error}"
        ) from error


def _row(name: str, tree: Any, row: Any) -> list[Any]:
    """A flat row of blocks, one for each leaf of the arguments, from a row of trees.

    Raises:
        RuleError: if the row does not have the structure of the arguments.
    """
    if not isinstance(row, tuple | list):
        raise RuleError(
            f"the rule for {name!r} must give a tuple with a block for each argument, "
            f"but gave {type(row).__name__}"
        )
    return _parts(name, "arguments", tree, tuple(row))


def _with_batch(block: Block, size: int, axis: int | None) -> Block:
    """`δ[b, b'] block[b]` from a batch of blocks; without `b'` if the operand is not batched."""
    batch = Label(size)
    out_shape, wrt_shape = (size, *block.out_shape), list(block.wrt_shape)
    if axis is not None:
        wrt_shape.insert(axis, size)
    terms = []
    for term in block.terms:
        out = (Index.of(batch), *(_batched_index(index, batch) for index in term.out))
        wrt = [_batched_index(index, batch) for index in term.wrt]
        if axis is not None:
            wrt.insert(axis, Index.of(batch))
        factors = tuple(_batched_factor(factor, batch) for factor in term.factors)
        terms.append(Term(factors, out, tuple(wrt), term.coefficient))
    return made(out_shape, wrt_shape, block.dtype, *terms)


def _batched_factor(factor: Factor, batch: Label) -> Factor:
    """The factor with its leading axis labeled as the batch."""
    if batch.size == 1:
        return Factor(factor.array[0], factor.labels, factor.name)
    return Factor(factor.array, (batch, *factor.labels), factor.name)


def _batched_index(index: Index, batch: Label) -> Index:
    """The index with the leading axis of its lookup, if it has one, labeled as the batch."""
    lookup = index.lookup
    if lookup is None:
        return index
    if batch.size == 1:
        return Index(index.offset, index.strides, Lookup(lookup.array[0], lookup.labels))
    table = Lookup(lookup.array, (batch, *lookup.labels))
    return Index(index.offset, index.strides, table)
