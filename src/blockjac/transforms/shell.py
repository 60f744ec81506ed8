"""The shell of every transform: what all of them do alike, around the one thing that each asks.

A transform of a function traces it at its arguments, asks a computation of the graph, and puts the
answer into the trees that the user knows. `Transform` does all of this but for the computation.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

import jax
import numpy as np
from jax.extend import source_info_util

from blockjac.algebra.losses import keeping_lines
from blockjac.base.promises import FORWARDS, Read
from blockjac.engine.arguments import ArgNums, check_argnums, check_callable, traced_call
from blockjac.engine.auxiliary import Auxiliary
from blockjac.engine.call import Call
from blockjac.engine.run import Computation, losses, matmul_precision, run
from blockjac.errors import ArgumentError, StructureLostError
from blockjac.graph.trace import named_as
from blockjac.planning import Order, Plan, check_order
from blockjac.planning.fingerprint import fingerprint
from blockjac.transforms.traced_once import Function, Orders, code_key, traced_once

source_info_util.register_exclusion(__file__)  # the place of an equation is the user's line


Decorated = TypeVar("Decorated", bound=Function)

P = ParamSpec("P")
"""The arguments of the user's function, which its transform takes too."""


Asked = (
    tuple[Computation, Callable[[Any], Any]]
    | tuple[Computation, Callable[[Any], Any], Sequence[Any]]
)
"""What a transform asks of a graph, what puts the answer into the user's trees, and the further
arrays of the computation, if it has any."""

Ask = Callable[[Call, Order], Asked]
"""Checks what is particular to a transform in a traced function, and asks."""


Rival = Callable[..., "tuple[Call, Computation] | None"]
"""Given a transform, the traced call, its computation, arguments and keywords: what to ask of what
instead, for the same answer; None if that is not cheaper."""


def as_found(answer: Any) -> Any:
    """The answer as it is, where it needs no tree."""
    return answer


@dataclass(frozen=True)
class Transform:
    """A transform applied to a function: the decorator of what it asks.

    The decorated function takes the traced `Call` and the order, checks what is particular to the
    transform, and gives a computation and what puts its answer into trees. It is a frozen
    dataclass; called with a graph and its arrays, it gives the auxiliary results and the answer.

    Attributes:
        name: of the transform, for messages.
        description: of the result, for the docstring.
        fun: the user's function.
        argnums: which positional arguments to differentiate.
        has_aux: whether the function returns `(value, aux)`.
        order: of elimination, as in `blockjac.jacobian`.
        holomorphic: whether complex derivatives are asked for.
        allow_int: whether inputs may be integers.
        derivative: the transform whose answer is differentiated; None for the function itself.
        require_structure: whether to raise where the answer would lose structure.
        with_value: whether the answer begins with the value; then aux stands beside that, as
            `jax.value_and_grad` has it, and else beside the answer.
        second: whether the function is traced for second derivatives.
        rival: another way to the same answer, taken where it is cheaper.
        finish: turns the answer and `(args, kwargs)`, outside of all programs, into what no program
            can give, such as a matrix of SciPy.

    Raises:
        DifferentiationTypeError: for a `fun` that is not callable, and `argnums` that are not ints.
        OrderError: for an order that does not exist.
        ArgumentError: for a `require_structure` that is not a bool.
    """

    name: str
    description: str
    fun: Function
    argnums: ArgNums
    has_aux: bool
    order: Orders = "reverse"
    holomorphic: bool = False
    allow_int: bool = False
    derivative: Callable[..., Function] | None = None
    require_structure: bool = False
    with_value: bool = False
    second: bool = False
    rival: Rival | None = None
    finish: Callable[[Any, Any], Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", check_order(self.order))  # a list cannot be hashed
        check_callable(self.fun, self.name)
        _check_require_structure(self.require_structure)

    def __call__(self, ask: Ask) -> Function:
        """The transformed function, from what is asked of its graph."""

        def answer(*args: Any, **kwargs: Any) -> tuple[Any, Auxiliary]:
            """The answer in the user's trees, and the auxiliary result."""
            call = self._traced(args, kwargs)
            computation, put, *extra = ask(call, fitted(self.order, call))
            strict = self.require_structure
            other = (
                None if self.rival is None else self.rival(self, call, computation, args, kwargs)
            )
            if other is not None:
                outs, result = answered(other[1], other[0])
                return put(result), call.auxiliary(outs)
            outs, result = answered(computation, call, None, *extra, require_structure=strict)
            return put(result), call.auxiliary(outs)

        once = traced_once(answer, self.order, self.fun, lambda: (self, code_key(ask)))

        def transformed(*args: Any, **kwargs: Any) -> Any:
            """Call the traced function, and put results and auxiliary results together."""
            result, auxiliary = once(*args, **kwargs)
            if self.finish is not None:
                result = self.finish(result, (args, kwargs))
            if not self.has_aux:
                return result
            aux = auxiliary.tree()
            return ((result[0], aux), *result[1:]) if self.with_value else (result, aux)

        return documented(transformed, self.fun, self.description, self.argnums)

    def _traced(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        """The function, or the derivative of it that is asked, traced at its arguments."""
        fun, argnums, has_aux = self.fun, self.argnums, self.has_aux
        if self.derivative is not None:
            fun = self.derivative(fun, argnums, has_aux, self.holomorphic)
        with keeping_lines(self.require_structure):
            return traced_call(
                self.name,
                fun,
                argnums,
                args,
                kwargs,
                has_aux=has_aux,
                holomorphic=self.holomorphic,
                allow_int=self.allow_int,
                second=self.second,
            )


def fitted(order: Orders, call: Call) -> Order:
    """An order for a traced function.

    Raises:
        PlanMismatchError: for a plan that was made for another one.
    """
    if isinstance(order, Plan):
        order.check_fits(fingerprint(call.graph), call.graph_name)
        return order.order
    return order  # pyright: ignore[reportReturnType]


def answered(
    computation: Computation,
    call: Call,
    arguments: Sequence[Any] | None = None,
    extra: Sequence[Any] = (),
    require_structure: bool = False,
) -> Any:
    """Run a computation in the precision that the function asks for, under JAX's default promotion.

    A strict promotion is for the user's own code.

    Args:
        computation: what is asked.
        call: the traced function.
        arguments: what the computation is asked at, if not the arguments of the call.
        extra: further arrays.
        require_structure: whether to raise where the answer would lose structure.

    Raises:
        StructureLostError: with `require_structure`, where it would.
    """
    arguments = call.arguments if arguments is None else arguments
    with contextlib.ExitStack() as settings:
        settings.enter_context(jax.numpy_dtype_promotion("standard"))
        settings.enter_context(jax.numpy_rank_promotion("allow"))
        precision = matmul_precision(call.graph)
        if precision is not None:
            settings.enter_context(jax.default_matmul_precision(precision))
        reading = Read(computation, call.name in FORWARDS)
        if require_structure:
            _refuse_losses(reading, call, arguments)
        return run(reading, call.graph, arguments, extra)


def _refuse_losses(computation: Computation, call: Call, arguments: Sequence[Any]) -> None:
    """Raise where the answer would lose structure."""
    lost = losses(computation, call.graph, arguments)
    if lost:
        lines = "\n".join(f"  - {loss}" for loss in lost)
        raise StructureLostError(
            f"blockjac.{call.name} of {call.graph_name!r} would lose structure, which "
            f"require_structure=True refuses:\n{lines}",
            lost,
        )


def _check_require_structure(require_structure: Any) -> None:
    """Raise unless the option is one of its two values."""
    if not isinstance(require_structure, bool | np.bool_):
        raise ArgumentError(
            f"require_structure is {require_structure!r}, but must be True (raise where structure "
            "would be lost) or False (compute the Jacobian all the same)"
        )


def documented(function: Function, fun: Function, description: str, argnums: ArgNums) -> Function:
    """Give a transformed function the original's name and signature, and a docstring."""
    check_argnums(argnums)  # a mistake is reported at once, and not at the first call
    named_as(fun, function)
    name = function.__name__
    function.__doc__ = (
        f"{description} of {name} with respect to positional argument(s) {argnums}. Takes the same "
        f"arguments as {name}."
    )
    return function


def formerly_third(option: str) -> Callable[[Decorated], Decorated]:
    """Take an option also third by position, where it stood before `has_aux` did.

    Args:
        option: its name. No value of it is a bool.

    Examples:
        >>> @formerly_third("format")
        ... def transform(fun, argnums=0, has_aux=False, *, format="csr"):
        ...     return argnums, has_aux, format
        >>> transform(abs, 1, "bcoo", True), transform(abs, 1, True, format="bcoo")
        ((1, True, 'bcoo'), (1, True, 'bcoo'))
    """

    def decorate(transform: Decorated) -> Decorated:
        """The transform, which takes the option in third place too."""

        @functools.wraps(transform)
        def call(fun: Function, argnums: ArgNums = 0, *positional: Any, **options: Any) -> Any:
            if not positional or isinstance(positional[0], bool | np.bool_):
                return transform(fun, argnums, *positional, **options)
            return transform(fun, argnums, *positional[1:], **{option: positional[0]}, **options)

        return cast("Decorated", call)

    return decorate


# Tracing once
