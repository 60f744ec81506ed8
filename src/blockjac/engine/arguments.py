"""One call of a transformed function: arguments checked, function traced, trees of answers."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util

from blockjac.base.compat import UNKNOWN_VALUE_ERRORS, jax_array
from blockjac.base.trees import flattened, leaves_with_path, tree_structure
from blockjac.engine.auxiliary import Auxiliary, Record
from blockjac.engine.call import Call, check_real_dtype
from blockjac.engine.leaves import TRACED, dtype_of, is_array, is_real_array
from blockjac.errors import ArgumentError, DifferentiationTypeError
from blockjac.graph.trace import named_as, trace

source_info_util.register_exclusion(__file__)  # the place of an equation is the user's line

ArgNums = int | Sequence[int]


def traced_call(
    name: str,
    fun: Callable[..., Any],
    argnums: ArgNums,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    *,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    abstract: bool = False,
    second: bool = False,
    keeps_calls: bool = False,
) -> Call:
    """Sort and check the arguments, and trace the function.

    Args:
        name: of the transform, for messages.
        fun: the user's function.
        argnums: which positional arguments to differentiate.
        args: positional arguments.
        kwargs: keyword arguments; they are not differentiated.
        has_aux: whether the function returns `(value, aux)`.
        holomorphic: whether inputs must be complex.
        allow_int: whether inputs may be integers.
        abstract: whether `jax.ShapeDtypeStruct`s may stand for arrays.
        second: whether the graph is for second derivatives.
        keeps_calls: whether calls stay equations of the graph, which is for explanations.

    Raises:
        DifferentiationTypeError: for inputs that have no derivative, and for results that are not
            arrays.
        ArgumentError: for argnums out of range.
    """
    positions = positions_of(argnums, len(args))
    leaves, tree = flattened((tuple(args), kwargs))
    chosen = _leaves_of(tree, positions)
    known = (*TRACED, jax.ShapeDtypeStruct) if abstract else TRACED
    for index in chosen:
        where = partial(leaf_name, fun, args, index)
        _check_input(leaves[index], where, name, holomorphic, allow_int, abstract)
    moves = [isinstance(leaf, known) or index in set(chosen) for index, leaf in enumerate(leaves)]
    record = Record(getattr(fun, "__name__", type(fun).__name__))

    def traced(*args: Any, **kwargs: Any) -> list[Any]:
        """Call the function on traced arrays; leaves that are Python values stay fixed."""
        traced_leaves = iter(jax.tree.leaves((args, kwargs)))
        full = [
            next(traced_leaves) if own else leaf for leaf, own in zip(leaves, moves, strict=True)
        ]
        args, kwargs = jax.tree.unflatten(tree, full)
        return record.flat(fun(*args, **kwargs), has_aux)

    arrays = [leaf if own else None for leaf, own in zip(leaves, moves, strict=True)]
    own_args, own_kwargs = jax.tree.unflatten(tree, arrays)
    inputs = [sum(moves[:index]) for index in chosen]
    try:
        graph = trace(named_as(fun, traced), own_args, inputs, own_kwargs, second, keeps_calls)
    except UNKNOWN_VALUE_ERRORS as error:
        error.add_note(
            f"blockjac.{name} traces the function, so that Python code cannot depend on the values "
            "of arrays and floats: use jnp.where or jax.lax.cond; or, if the argument is not "
            "differentiated, pass it as an int, bool or str, which stay Python values"
        )
        raise
    return Call(
        name=name,
        graph=graph,
        arguments=[jax_array(leaf) for leaf in arrays if leaf is not None],
        wrt=tuple(graph.inputs[index] for index in inputs),
        wrt_tree=tree_structure(tuple(args[position] for position in positions)),
        single=not isinstance(argnums, Sequence | np.ndarray),
        record=record,
        holomorphic=holomorphic,
        origins=_origins(tree, moves),
    )


jax.tree_util.register_dataclass(Auxiliary, data_fields=["arrays"], meta_fields=["passed"])


def check_callable(fun: Any, name: str) -> None:
    """Raise unless a transform was given a function.

    Raises:
        DifferentiationTypeError: names the transform and what it was given.
    """
    if not callable(fun):
        raise DifferentiationTypeError(
            f"Expected a callable value for blockjac.{name}, got {fun!r} of type {type(fun)}"
        )


def check_argnums(argnums: Any) -> None:
    """Raise unless argnums are an int or several.

    Raises:
        DifferentiationTypeError: says what was found, and what may have been meant.
    """
    if type(argnums) is int:
        return
    if isinstance(argnums, bool):
        raise DifferentiationTypeError(
            f"argnums must be an int or a sequence of ints, but {argnums!r} was given; "
            "if another option was meant, such as has_aux, pass it by its name"
        )
    numbers = tuple(argnums) if _several(argnums) else (argnums,)
    if not all(isinstance(number, int | np.integer) for number in numbers):
        raise DifferentiationTypeError(
            f"argnums must be an int or a sequence of ints, but {argnums!r} was given; "
            "the arguments of the function go into a second call, as in jacobian(fun)(x)"
        )


def _several(argnums: Any) -> bool:
    return isinstance(argnums, Sequence | np.ndarray) and not isinstance(argnums, str)


def positions_of(argnums: ArgNums, count: int) -> tuple[int, ...]:
    """Positions of the differentiated arguments, counted from the first."""
    check_argnums(argnums)
    numbers = tuple(map(operator.index, argnums if _several(argnums) else (argnums,)))  # pyright: ignore[reportArgumentType]
    if not numbers:
        raise ArgumentError(f"argnums must name at least one argument, but is {argnums!r}")
    for number in numbers:
        if not -count <= number < count:
            needed = number + 1 if number >= 0 else -number
            raise ArgumentError(
                f"differentiating with respect to argnums={argnums} requires at least {needed} "
                f"positional arguments to be passed by the caller, but got only {count} positional "
                "arguments."
            )
    positions = tuple(number % count for number in numbers)
    if len(set(positions)) < len(positions):
        raise ArgumentError(f"argnums={argnums} names one of the {count} arguments twice")
    return positions


def _origins(tree: Any, moves: Sequence[bool]) -> tuple[int | None, ...]:
    """For each leaf that is traced, its positional argument; None for a keyword argument."""
    arguments, _ = tree.children()
    origins: list[int | None] = [
        position
        for position, child in enumerate(arguments.children())
        for _ in range(child.num_leaves)
    ]
    origins += [None] * (len(moves) - len(origins))
    return tuple(origin for origin, own in zip(origins, moves, strict=True) if own)


def _leaves_of(tree: Any, positions: Sequence[int]) -> list[int]:
    """Indices of some arguments' leaves among those of `(args, kwargs)`."""
    arguments, _ = tree.children()
    ends = list(accumulate((child.num_leaves for child in arguments.children()), initial=0))
    return [leaf for position in positions for leaf in range(ends[position], ends[position + 1])]


def _check_input(
    leaf: Any,
    where: Callable[[], str],
    name: str,
    holomorphic: bool = False,
    allow_int: bool = False,
    abstract: bool = False,
) -> None:
    """Raise unless a leaf can be differentiated; `where` gives its name."""
    if abstract and isinstance(leaf, jax.ShapeDtypeStruct):
        dtype = leaf.dtype
    elif is_array(leaf):
        dtype = dtype_of(leaf)
    else:
        raise DifferentiationTypeError(
            f"Argument {leaf!r} of type {type(leaf)} is not a valid JAX type, as {where()}: "
            f"{name} differentiates with respect to arrays and numbers only; choose with argnums"
        )
    if holomorphic and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise DifferentiationTypeError(
            f"{name} with holomorphic=True requires inputs with complex dtype, "
            f"but got {dtype.name}, as {where()}."
        )
    if not jnp.issubdtype(dtype, jnp.inexact) and not allow_int:
        raise DifferentiationTypeError(
            f"{name} requires real- or complex-valued inputs (input dtype that is a sub-dtype of "
            f"np.inexact), but got {dtype.name}, as {where()}. If you want to use Boolean- or "
            "integer-valued inputs, use vjp or set allow_int to True where the transform has it."
        )


def check_inputs(name: str, fun: Callable[..., Any], argnums: ArgNums, args: Sequence[Any]) -> None:
    """Raise unless some arguments are real: where other transforms will differentiate them.

    Args:
        name: of the transform that was called.
        fun: the user's function.
        argnums: which of its arguments to differentiate.
        args: its positional arguments.

    Raises:
        DifferentiationTypeError: names the transform and the leaf.
        ArgumentError: for argnums out of range.
    """
    positions = positions_of(argnums, len(args))
    if all(map(is_real_array, jax.tree.leaves([args[position] for position in positions]))):
        return
    leaves, tree = flattened((tuple(args), {}))
    for index in _leaves_of(tree, positions):
        where = partial(leaf_name, fun, args, index)
        _check_input(leaves[index], where, name)
        check_real_dtype(dtype_of(leaves[index]), where, name)


def leaf_name(fun: Callable[..., Any], args: Sequence[Any], index: int) -> str:
    """A leaf of the positional arguments as it stands in the user's code: `params['W'][0]`.

    Args:
        fun: the user's function.
        args: its positional arguments.
        index: of the leaf among those of all arguments.
    """
    path = leaves_with_path(tuple(args))[index][0]
    names = parameter_names(fun, len(args))
    argument: int = path[0].idx
    return names[argument] + jax.tree_util.keystr(path[1:])


def parameter_names(fun: Callable[..., Any], count: int) -> list[str]:
    """The names of this many positional arguments of a function, or their numbers."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        parameters = []
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    rest = next((own.name for own in parameters if own.kind is own.VAR_POSITIONAL), "")
    others = range(count - len(names))
    numbered = [f"{rest}[{n}]" if rest else f"argument {len(names) + n}" for n in others]
    return [*names, *numbered]
