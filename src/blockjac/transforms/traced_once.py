"""Functions that are traced once for arguments of the same types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from blockjac.base import compat
from blockjac.base.caches import Cache
from blockjac.base.compat import Tracer
from blockjac.engine.auxiliary import Auxiliary
from blockjac.engine.leaves import TRACED
from blockjac.planning import Order, Plan
from blockjac.rules.registry import edition

Function = Callable[..., Any]


Orders = Order | Plan | Sequence[int]
"""What the transforms take as `order`."""


_functions: Cache[Function] = Cache("transformed functions", 256)


def traced_once(
    function: Callable[..., tuple[Any, Auxiliary]],
    order: Orders,
    fun: Function,
    key: Callable[[], Any] | None = None,
) -> Callable[..., tuple[Any, Auxiliary]]:
    """A transform's function, traced once for its shapes where it may be, as by `jit`.

    It may be where a plan was given, and where the user's function is jitted already, whose Python
    code JAX itself runs once for its shapes. A later call then costs the compiled program and some
    microseconds. Calls with arguments that are neither arrays nor floats, which stay Python values,
    are traced anew.

    Args:
        function: gives the answer, a tree of arrays, and the auxiliary result.
        order: of elimination.
        fun: the user's function.
        key: gives what two functions have in common that do the same; by default their text and
            what they close over.
    """
    if not isinstance(order, Plan) and not compat.is_jitted(fun):
        return function
    programs: dict[int, Function] = {}

    def call(*args: Any, **kwargs: Any) -> tuple[Any, Auxiliary]:
        """Call the compiled function, or the function itself while JAX traces."""
        leaves = jax.tree.leaves((args, kwargs))
        if not all(isinstance(leaf, TRACED) and not isinstance(leaf, Tracer) for leaf in leaves):
            return function(*args, **kwargs)
        version = edition()  # a rule that is defined later makes another program
        if version not in programs:
            programs[version] = _compiled(function, code_key(function) if key is None else key())
        return programs[version](*args, **kwargs)

    return call


def _compiled(function: Function, key: Any) -> Function:
    """The jitted function: one for all of the same key.

    `blockjac.grad(f)` made twice for one jitted `f` is then compiled once.
    """
    try:
        hash(key)
    except TypeError:  # closes over a list, say: then it is the function itself that counts
        key = function
    # A function of its own is jitted: JAX finds the trace of one that it has met before.
    return _functions.made((edition(), key), lambda: jax.jit(partial(function)))


def code_key(function: Any) -> tuple[Any, ...]:
    """The code of a function and what it closes over: what two have in common that do the same."""
    return function.__code__, *(cell.cell_contents for cell in function.__closure__ or ())
