"""The memory that a traced program will take, foretold from its equations.

The compiler fuses what moves numbers and computes entry by entry into what consumes it, so that
most values of a program are never stored. What is stored: operands and results of products, of
loops and of library calls; results of reductions; and a value that several consumers need and that
is dear to compute again. A stored value lives from where it is computed to its last use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.extend import core

from blockjac.base import compat
from blockjac.graph.primitives import CALLS, named

INLINED = CALLS | {"custom_jvp_call"}

ALIASES = named("storage", "alias")
"""What gives the same numbers in the same order: no new array."""

MOVING = named("storage", "moves")
"""What is fused into its consumers, however many there are."""

CHEAP = named("storage", "cheap")
"""What is computed entry by entry, and again rather than stored."""

DEAR = named("storage", "dear")
"""What is computed entry by entry, and stored where more than one needs it."""

RELAYOUT = "relayout"
"""A copy of a product's operand with its axes in another order."""

REDUCING = named("storage", "reduces") | {RELAYOUT}
"""What takes its operand fused, and stores its result."""

FUSED = MOVING | CHEAP | DEAR | ALIASES

IN_PLACE = named("storage", "in-place")
"""What changes some entries of its first operand, in its place if nothing else reads that."""


@dataclass(eq=False)
class _Value:
    """A value of the program.

    Attributes:
        size: bytes.
        maker: the operation that computes it; None for an argument.
        users: operations that read it.
        is_result: whether the program returns it.
    """

    size: int
    maker: _Operation | None = None
    users: list[_Operation] = field(default_factory=list)
    is_result: bool = False


@dataclass(eq=False)
class _Operation:
    name: str
    operands: list[_Value]
    results: list[_Value] = field(default_factory=list)
    reads: list[_Value] = field(default_factory=list)
    inside: int = 0


def peak_bytes(jaxpr: Any, arguments: int | None = None) -> int:
    """Bytes of arguments, results and what is stored at the same time on the way.

    Args:
        jaxpr: of the whole program, open or closed.
        arguments: how many of its inputs are arguments; what follows is captured, and no part of
            the count, as the compiler has it as constants. None for all.

    Returns:
        What the compiler will report as arguments plus results plus temporaries, about.
    """
    program = _Program(jaxpr, arguments)
    return program.fixed + program.temporaries()


class _Program:
    def __init__(self, jaxpr: Any, count: int | None = None) -> None:
        opened = compat.open_jaxpr(jaxpr)
        self.operations: list[_Operation] = []
        self.literals: dict[str, _Value] = {}
        self.same: dict[Any, list[_Value]] = {}
        arguments = [_Value(_bytes(one.aval)) for one in (*opened.invars, *opened.constvars)]
        self.results = _distinct(self._read(opened, arguments))
        for value in self.results:
            value.is_result = True
        self._drop_unused()
        self.stored = {
            value for one in self.operations for value in one.results if _is_stored(value)
        }
        self.operations = self._scheduled()
        # The compiler keeps no argument that nothing reads.
        used = [value for value in arguments[:count] if value.users or value.is_result]
        self.fixed = sum(value.size for value in {*used, *self.results})

    def _read(self, jaxpr: Any, arguments: Sequence[_Value]) -> list[_Value]:
        known: dict[Any, _Value] = dict(
            zip((*jaxpr.invars, *jaxpr.constvars), arguments, strict=True)
        )

        def read(atom: Any) -> _Value:
            if not hasattr(atom, "val"):
                return known[atom]
            return self.literals.setdefault(repr((atom.val, str(atom.aval))), _Value(0))

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            name = equation.primitive.name
            inner = list(core.jaxprs_in_params(equation.params))
            if name in INLINED and inner:
                called = compat.open_jaxpr(inner[0])
                constants = [_Value(_bytes(one.aval)) for one in called.constvars]
                made = self._read(called, [*operands, *constants])
            else:
                made = self._append(name, equation, operands, inner)
            known.update(zip(equation.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _append(
        self, name: str, equation: Any, operands: list[_Value], inner: Sequence[Any]
    ) -> list[_Value]:
        # The compiler computes equal expressions once.
        key = (name, tuple(map(id, operands)), repr(sorted(equation.params.items(), key=str)))
        if not inner and not equation.effects and key in self.same:
            return self.same[key]
        if name == "dot_general":
            operands = self._laid_out(equation, operands)
        operation = _Operation(name, operands)
        if name not in FUSED | REDUCING | IN_PLACE:
            operation.inside = max((_Program(one).temporaries() for one in inner), default=0)
        operation.results = [_Value(_bytes(one.aval), operation) for one in equation.outvars]
        if name.startswith("cum"):  # partial results of windows stand beside the whole
            operation.inside = sum(value.size for value in operation.results)
        for value in operands:
            value.users.append(operation)
        self.operations.append(operation)
        self.same[key] = operation.results
        return operation.results

    def _laid_out(self, equation: Any, operands: Sequence[_Value]) -> list[_Value]:
        """The operands of a product, copied where their axes do not lie as a matrix product reads.

        It reads batches first, then summed and other axes, each of them together.
        """
        contracting, batch = equation.params["dimension_numbers"]
        found = []
        for value, atom, summed, first in zip(
            operands, equation.invars, contracting, batch, strict=True
        ):
            rank = len(atom.aval.shape)
            rest = [axis for axis in range(rank) if axis not in first and axis not in summed]
            ready = (*first, *sorted(summed), *rest), (*first, *rest, *sorted(summed))
            if tuple(range(rank)) not in ready and value.size:
                operation = _Operation(RELAYOUT, [value])
                value.users.append(operation)
                self.operations.append(operation)
                value = _Value(value.size, operation)
                operation.results = [value]
            found.append(value)
        return found

    def _drop_unused(self) -> None:
        kept = []
        for operation in reversed(self.operations):
            if any(value.users or value.is_result for value in operation.results):
                kept.append(operation)
            else:
                for value in operation.operands:
                    value.users.remove(operation)
        self.operations = kept[::-1]

    def _scheduled(self) -> list[_Operation]:
        """The operations that store something, as the compiler orders them.

        First come those whose operands are there first (breadth first), so that they can run side
        by side.
        """
        kept = [
            one
            for one in self.operations
            if one.name not in FUSED or any(value in self.stored for value in one.results)
        ]
        for one in kept:
            one.reads = [value for value in _sources(one, self.stored) if value in self.stored]
        waiting = {one: sum(value.maker is not one for value in set(one.reads)) for one in kept}
        readers: dict[_Value, list[_Operation]] = {}
        for one in kept:
            for value in set(one.reads):
                readers.setdefault(value, []).append(one)
        queue = [one for one in kept if not waiting[one]]
        for one in queue:
            for value in one.results:
                for user in readers.get(value, ()):
                    waiting[user] -= 1
                    if not waiting[user]:
                        queue.append(user)
        return queue

    def temporaries(self) -> int:
        """The most bytes that are stored at once, arguments and results apart.

        What is gone before a result is written may have stood in the result's place, and what is
        read for the last time, entry by entry, is overwritten.
        """
        lives = self._lives()
        overwritten = self._overwritten(lives)
        lives = {
            value: (first, last - 1 if value in overwritten else last)
            for value, (first, last) in lives.items()
        }
        slots = [(place, value.size) for value, (place, _) in lives.items() if value.is_result]
        free = {place: [size, 0] for place, size in slots}
        events: dict[int, int] = {}
        own = [(value.size, *span) for value, span in lives.items() if not value.is_result]
        for size, first, last in sorted(own, key=lambda one: (-one[0], one[1])):
            room = [end for end, (space, used) in free.items() if used <= first and last < end]
            fitting = [end for end in room if free[end][0] >= size]
            if fitting:
                free[min(fitting)][1] = last + 1
                continue
            events[first] = events.get(first, 0) + size
            events[last + 1] = events.get(last + 1, 0) - size
        live = most = 0
        inside = {place: one.inside for place, one in enumerate(self.operations) if one.inside}
        for place in sorted({*events, *inside}):
            live += events.get(place, 0)
            most = max(most, live + inside.get(place, 0))
        return most

    def _overwritten(self, lives: Mapping[_Value, tuple[int, int]]) -> set[_Value]:
        """Stored values that make way for a value of the same size where they are read last."""
        found: set[_Value] = set()
        for place, operation in enumerate(self.operations):
            if operation.name not in CHEAP | DEAR | IN_PLACE:
                continue
            changed = operation.name in IN_PLACE
            for result in operation.results:
                if result not in lives:
                    continue
                for value in operation.operands[:1] if changed else operation.reads:
                    last = lives.get(value, (0, -1))[1]
                    if last == place and value.size == result.size and not value.is_result:
                        found.add(value)
                        break
        return found

    def _lives(self) -> dict[_Value, tuple[int, int]]:
        """Where each stored value is computed, and where it is read last."""
        lives: dict[_Value, tuple[int, int]] = {}
        for place, operation in enumerate(self.operations):
            for value in operation.results:
                if value in self.stored:
                    lives[value] = (place, place)
            for value in operation.reads:
                lives[value] = (lives[value][0], place)
        return lives


def _distinct(values: Sequence[_Value]) -> list[_Value]:
    """The results of a program; one that is another value under another shape is that value."""
    found: dict[_Value, None] = {}
    for value in values:
        origin = value
        while origin.maker is not None and origin.maker.name in ALIASES:
            origin = origin.maker.operands[0]
        is_computed = origin.maker is not None and origin not in found
        found[origin if is_computed else value] = None
    return list(found)


def _is_stored(value: _Value) -> bool:
    maker = value.maker
    if maker is None or maker.name in ALIASES:
        return False
    if maker.name not in FUSED or value.is_result:
        return True
    users = _users(value)
    if any(user.name not in FUSED and user.name not in REDUCING for user in users):
        return True
    return len(set(users)) > 1 and maker.name in DEAR


def _users(value: _Value) -> list[_Operation]:
    """The operations that read a value, under whatever shape."""
    found: list[_Operation] = []
    for user in value.users:
        found += _users(user.results[0]) if user.name in ALIASES else [user]
    return found


def _sources(operation: _Operation, stored: set[_Value]) -> Iterable[_Value]:
    """The stored values that an operation reads, what is fused into it included."""
    seen: set[_Value] = set()
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
    return


def _bytes(aval: Any) -> int:
    itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return math.prod(getattr(aval, "shape", ())) * itemsize
