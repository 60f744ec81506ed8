"""Is a rule right? Its Jacobian beside JAX's, or beside differences where JAX has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives

from blockjac.base.compat import bind
from blockjac.base.trees import flattened, leaves_with_path
from blockjac.errors import RuleError, WrongRuleError
from blockjac.rules.define import DEFINED
from blockjac.rules.registry import RULES, ZERO
from blockjac.transforms.first_order import jacobian

DIFFERENCE = 1e-5
"""Step of central differences, relative to the size of the entry."""

DIFFERENCE_TOLERANCE = 1e-6
"""What central differences in double precision are good for."""


def check(function: Any, *args: Any, rtol: float = 1e-10, **params: Any) -> None:
    """Compare the Jacobian by our rules with JAX's, in double precision, in both orders.

    Where JAX has no derivative, central differences stand in. An entry that is 0 by structure may
    be nan in JAX.

    Args:
        function: a function, a primitive, or the name of one.
        args: its arguments, arrays and trees of them; the floats among them are differentiated.
        rtol: relative tolerance, of the largest entry; at least 1e-6 against differences.
        params: the primitive's parameters, or the function's keyword arguments; a name is called as
            the function of `jax.lax` of that name is.

    Raises:
        WrongRuleError: names the first entry that differs, with both values.
        RuleError: if the primitive has no rule, or none of the arguments is a float.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import rules
        >>> rules.check("tanh", jnp.array([-1.0, 0.0, 30.0]))
        >>> rules.check(lambda x, w: jnp.tanh(x @ w), jnp.ones((2, 3)), jnp.ones(3))
    """
    of_trees, name = _called(function, params)
    leaves, tree = flattened(args)
    argument_names = [_place(path) for path, _ in leaves_with_path(args)]

    def called(*parts: Any) -> list[Any]:
        return of_trees(*jax.tree.unflatten(tree, parts))

    with jax.enable_x64(True):
        arguments = [_in_double(leaf) for leaf in leaves]
        moving = tuple(
            position
            for position, argument in enumerate(arguments)
            if jnp.issubdtype(argument.dtype, jnp.floating)
        )
        if not moving:
            raise RuleError(f"checking {name} needs a float among its arguments")
        oracle, wanted = _oracle(called, arguments, moving)
        tolerance = max(rtol, DIFFERENCE_TOLERANCE) if oracle == "differences" else rtol
        only_backwards = oracle == "jax.jacrev"  # a custom_vjp function, for example
        for order in ("reverse",) if only_backwards else ("reverse", "forward"):
            jacobians = _ours(called, arguments, moving, order)
            for result, (own_row, wanted_row) in enumerate(zip(jacobians, wanted, strict=True)):
                for position, own_jacobian, wanted_jacobian in zip(
                    moving, own_row, wanted_row, strict=True
                ):
                    where = f"result {result} with respect to argument {argument_names[position]}"
                    _compare(own_jacobian, wanted_jacobian, tolerance, name, where, oracle)


def _place(path: Any) -> str:
    """A leaf of the arguments as messages call it: `0`, or `0['W']` in a tree."""
    return f"{path[0].idx}{jax.tree_util.keystr(path[1:])}"


def _called(function: Any, params: dict[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    """What to call, as a function with a list of results, and how to name it."""
    if callable(function) and not hasattr(function, "bind"):
        name = getattr(function, "__name__", type(function).__name__)
        return (lambda *parts: jax.tree.leaves(function(*parts, **params))), name
    called, name = _of_primitive(function, params)
    if name not in RULES and name not in ZERO:
        raise RuleError(
            f"there is no rule for {name!r} to check; add one with blockjac.rules.define"
        )
    return called, repr(name)


def _of_primitive(primitive: Any, params: dict[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    """What runs a primitive, and its name; a name runs the function of `jax.lax` that has it."""
    if isinstance(primitive, str) and primitive not in DEFINED:
        public = getattr(lax, primitive, None)
        if callable(public):
            return (lambda *parts: jax.tree.leaves(public(*parts, **params))), primitive
    known = {entry.name: entry for entry in vars(primitives).values() if hasattr(entry, "bind")}
    called = {**known, **DEFINED}.get(primitive) if isinstance(primitive, str) else primitive
    if called is None:
        raise RuleError(
            f"no primitive of the name {primitive!r} is known; check the primitive itself, "
            "or a function that calls it"
        )
    return (lambda *parts: bind(called, parts, params)), called.name


def _in_double(argument: Any) -> jax.Array:
    array = jnp.asarray(argument)
    return array.astype(jnp.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _ours(
    called: Callable[..., Any],
    arguments: Sequence[Any],
    moving: Sequence[int],
    order: Literal["reverse", "forward"],
) -> Any:
    return jacobian(called, tuple(moving), order=order)(*arguments)


def _oracle(
    called: Callable[..., Any], arguments: Sequence[Any], moving: Sequence[int]
) -> tuple[str, Any]:
    """JAX's Jacobian, forward or else reverse; differences where it has neither."""
    oracles = cast("tuple[Callable[..., Callable[..., Any]], ...]", (jax.jacfwd, jax.jacrev))
    for oracle in oracles:
        try:
            return f"jax.{oracle.__name__}", oracle(called, tuple(moving))(*arguments)
        except (NotImplementedError, TypeError, ValueError):
            continue
    return "differences", _differences(called, arguments, moving)


def _differences(
    called: Callable[..., Any], arguments: Sequence[Any], moving: Sequence[int]
) -> list[list[np.ndarray]]:
    """Central differences, by result and argument."""
    results: list[np.ndarray] = [np.asarray(result) for result in called(*arguments)]
    jacobians = [
        [np.zeros((*result.shape, *arguments[position].shape)) for position in moving]
        for result in results
    ]
    for column, position in enumerate(moving):
        point = np.asarray(arguments[position])
        for entry in np.ndindex(point.shape):
            step = DIFFERENCE * max(1.0, abs(point[entry]))
            ends: list[list[np.ndarray]] = []
            for sign in (1, -1):
                moved = point.copy()
                moved[entry] += sign * step
                parts = list(arguments)
                parts[position] = jnp.asarray(moved)
                ends.append([np.asarray(result) for result in called(*parts)])
            for row, (up, down) in enumerate(zip(ends[0], ends[1], strict=True)):
                jacobians[row][column][(..., *entry)] = (up - down) / (2 * step)
    return jacobians


def _compare(
    own_jacobian: Any, wanted: Any, rtol: float, name: str, where: str, oracle: str
) -> None:
    """Raise unless a Jacobian agrees with the one that is wanted, up to the tolerance."""
    own_jacobian, wanted = np.asarray(own_jacobian), np.asarray(wanted)
    finite = np.abs(wanted[np.isfinite(wanted)])
    largest = finite.max() if finite.size else 0.0
    same = np.isclose(own_jacobian, wanted, rtol=rtol, atol=rtol * largest, equal_nan=True)
    same |= np.isnan(wanted) & (own_jacobian == 0)
    if same.all():
        return
    first = tuple(map(int, np.argwhere(~same)[0]))
    witness = "differences give" if oracle == "differences" else f"{oracle} gives"
    raise WrongRuleError(
        f"the Jacobian of {name}, {where}, differs at {list(first)}: "
        f"the rule gives {own_jacobian[first]:.12g}, {witness} {wanted[first]:.12g}; "
        f"{np.sum(~same)} of {own_jacobian.size} entries differ"
    )
