"""Which values of a program the compiler stores, as a graph of operations and values.

The compiler fuses operations that move numbers or compute entry by entry into those that read their
results, so most values of a program are never stored. Those that are: operands and results of
products, of loops and of library calls; results of reductions; and values that several operations
read and that are expensive to compute again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from blockjac.graph.primitives import named

ALIASES = named("storage", "alias")
"""Primitives that return the same numbers in the same order: no new array."""

MOVING = named("storage", "moves")
"""Primitives that are fused into all operations that read their result."""

CHEAP = named("storage", "cheap")
"""Primitives that are computed entry by entry, and again for each operation that reads them."""

DEAR = named("storage", "dear")
"""Primitives that are computed entry by entry, and stored if several operations read them."""

RELAYOUT = "relayout"
"""A copy of a product's operand with its axes in another order."""

REDUCING = named("storage", "reduces") | {RELAYOUT}
"""Operations that have their operand fused into them, and store their result."""

FUSED = MOVING | CHEAP | DEAR | ALIASES

IN_PLACE = named("storage", "in-place")
"""Primitives that change entries of their first operand, in its memory if nothing else reads it."""


@dataclass(eq=False)
class Value:
    """A value of the program.

    Attributes:
        size: its bytes.
        maker: the operation that computes it; None for an argument.
        users: the operations that read it.
        is_result: whether the program returns it.
    """

    size: int
    maker: Operation | None = None
    users: list[Operation] = field(default_factory=list)
    is_result: bool = False


@dataclass(eq=False)
class Operation:
    """An operation of the program.

    Attributes:
        name: the name of its primitive.
        operands: the values that it is applied to.
        results: the values that it computes.
        reads: the stored values that it reads, including those of operations fused into it.
        inside: the bytes that it needs while it runs, besides operands and results.
    """

    name: str
    operands: list[Value]
    results: list[Value] = field(default_factory=list)
    reads: list[Value] = field(default_factory=list)
    inside: int = 0


def is_stored(value: Value) -> bool:
    """Whether the compiler stores a value, rather than fuse it into all operations that read it."""
    maker = value.maker
    if maker is None or maker.name in ALIASES:
        return False
    if maker.name not in FUSED or value.is_result:
        return True
    users = _users(value)
    if any(user.name not in FUSED and user.name not in REDUCING for user in users):
        return True
    return len(set(users)) > 1 and maker.name in DEAR


def _users(value: Value) -> list[Operation]:
    """The operations that read a value, or an alias of it."""
    users: list[Operation] = []
    for user in value.users:
        users += _users(user.results[0]) if user.name in ALIASES else [user]
    return users


def sources(operation: Operation, stored: set[Value]) -> Iterable[Value]:
    """The stored values and arguments that an operation reads, itself or by what is fused into it.

    Args:
        operation: the operation.
        stored: all stored values.
    """
    seen: set[Value] = set()
    pending = list(operation.operands)
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in stored or value.maker is None:
            yield value
        else:
            pending += value.maker.operands


def distinct(values: Sequence[Value]) -> list[Value]:
    """The results of a program without repetitions; an alias counts as the value it is of."""
    results: dict[Value, None] = {}
    for value in values:
        origin = value
        while origin.maker is not None and origin.maker.name in ALIASES:
            origin = origin.maker.operands[0]
        is_computed = origin.maker is not None and origin not in results
        results[origin if is_computed else value] = None
    return list(results)
