"""A function at a point as a tape: every value it computes, and how each depends on the one before.

All numbers are on the host and in double precision, so that a derivative with a mistake in one
place costs a few products of arrays and compiles nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.checking.unrolled import ELEMENTWISE, flat_jaxpr, is_elementwise_call
from blockjac.graph.linearity import is_inexact
from blockjac.graph.primitives import OWN_RULES

Arrays = dict[int, np.ndarray]
"""Arrays by the number of the value that they belong to."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One equation of the tape.

    Attributes:
        name: of its primitive, or of a function with a rule of its own.
        primitive: JAX's primitive; None for the broadcast of an operand.
        params: its parameters.
        operands: numbers of values.
        results: numbers of values.
        source: where it is in the user's code.
    """

    name: str
    primitive: Any
    params: dict[str, Any]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    source: Any = None

    @property
    def is_elementwise(self) -> bool:
        """Whether each entry of the result is computed from one of each operand."""
        return "elementwise" in self.params


@dataclass(eq=False)
class Tape:
    """The values and equations of a function at a point.

    Attributes:
        avals: shape and dtype of each value.
        entries: in order of evaluation.
        inputs: the values of the function's arguments, leaf by leaf.
        wrt: those that are differentiated.
        results: the values of the function's results.
        values: arrays of the values, in double precision.
        slopes: of elementwise entries, by position in `entries` and of the operand: the derivative.
        active: the values that depend on `wrt`.
        opaque: random keys, which are not numbers, by value.
        constants: arrays of the values that the function does not compute.
        run: from arrays to be added to values, all values and slopes.
        compiled: pullbacks and pushforwards of entries that have no rule, by position.
    """

    avals: list[Any] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    wrt: tuple[int, ...] = ()
    results: tuple[int, ...] = ()
    values: Arrays = field(default_factory=dict)
    slopes: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    active: set[int] = field(default_factory=set)
    opaque: dict[int, Any] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    run: Callable[..., Any] | None = None
    compiled: dict[int, Any] = field(default_factory=dict)

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        return tuple(self.avals[value].shape)

    def new_value(self, aval: Any) -> int:
        """Number a new value."""
        self.avals.append(aval)
        return len(self.avals) - 1

    def read_at(self, added: Mapping[int, Any]) -> Tape:
        """The tape at the point that results from adding arrays to some values.

        Args:
            added: arrays by value.
        """
        shifts = {value: added.get(value, np.zeros(self.shape(value))) for value in self.shiftable}
        values, slopes = cast("Callable[..., Any]", self.run)(shifts)
        tape = replace(self, values={}, slopes={})
        opaque = {value for value in values if _is_opaque(self.avals[value])}
        tape.opaque = {value: values[value] for value in opaque}
        tape.values = {v: _double(array) for v, array in values.items() if v not in opaque}
        tape.slopes = {edge: _double(array) for edge, array in slopes.items()}
        return tape

    @property
    def shiftable(self) -> list[int]:
        """The values that arrays can be added to."""
        return sorted(self.active)


def tape_of(fun: Callable[..., Any], args: Sequence[Any], wrt: Sequence[int]) -> Tape:
    """Record a function at a point.

    Args:
        fun: of arrays and trees of arrays.
        args: its arguments.
        wrt: positions of the differentiated leaves among the leaves of `args`.
    """
    closed = flat_jaxpr(fun, args)
    jaxpr = compat.open_jaxpr(closed)
    tape = Tape()
    numbers = {variable: tape.new_value(variable.aval) for variable in jaxpr.invars}
    tape.inputs = tuple(numbers.values())
    tape.wrt = tuple(tape.inputs[position] for position in wrt)
    for variable, array in zip(jaxpr.constvars, compat.constants(closed), strict=True):
        numbers[variable] = tape.new_value(variable.aval)
        tape.constants[numbers[variable]] = array

    def number(atom: Any) -> int:
        """The number of an atom; a literal gets a new one."""
        if compat.is_variable(atom):
            return numbers[atom]
        value = tape.new_value(atom.aval)
        tape.constants[value] = np.asarray(atom.val, atom.aval.dtype)
        return value

    tape.active = set(tape.wrt)
    for equation in jaxpr.eqns:
        operands = [number(atom) for atom in equation.invars]
        results = tuple(tape.new_value(variable.aval) for variable in equation.outvars)
        numbers.update(zip(equation.outvars, results, strict=True))
        _record(tape, equation, operands, results)
    tape.results = tuple(number(atom) for atom in jaxpr.outvars)
    arguments = dict(zip(tape.inputs, jax.tree.leaves(tuple(args)), strict=True))
    tape.run = _runner(tape, {**tape.constants, **arguments})
    return tape.read_at({})


def _record(tape: Tape, equation: Any, operands: list[int], results: tuple[int, ...]) -> None:
    """Append an equation, and before it the broadcasts that its operands need."""
    name, params = equation.primitive.name, dict(equation.params)
    shape = tape.shape(results[0]) if len(results) == 1 else None
    is_call = name in OWN_RULES and is_elementwise_call(params, [tape.avals[v] for v in operands])
    if shape is not None and (name in ELEMENTWISE or is_call):
        params["elementwise"] = True
        for position, operand in enumerate(operands):
            if tape.shape(operand) != shape and operand in tape.active:
                operands[position] = _broadcast(tape, operand, results[0], equation)
    inexact = [value for value in results if is_inexact(tape.avals[value])]
    if tape.active.intersection(operands) and name != "stop_gradient":
        tape.active.update(inexact)
    label = str(params.get("name", name)) if is_call else name
    source = equation.source_info
    tape.entries.append(Entry(label, equation.primitive, params, tuple(operands), results, source))


def _broadcast(tape: Tape, operand: int, result: int, equation: Any) -> int:
    """A new value: the operand in the shape of the result."""
    shape, aval = tape.shape(result), tape.avals[operand]
    axes = tuple(range(len(shape) - len(aval.shape), len(shape)))
    params = {"shape": shape, "broadcast_dimensions": axes}
    value = tape.new_value(jax.ShapeDtypeStruct(shape, aval.dtype))
    tape.active.add(value)
    tape.entries.append(
        Entry("broadcast_in_dim", None, params, (operand,), (value,), equation.source_info)
    )
    return value


def _runner(tape: Tape, known: Mapping[int, Any]) -> Callable[..., Any]:
    """From arrays to be added to some values, all values and the slopes of elementwise entries."""
    arrays = {value: jnp.asarray(array) for value, array in known.items()}

    def run(shifts: Any) -> Any:
        """Evaluate entry by entry."""
        values: dict[int, Any] = dict(arrays)
        slopes: dict[Any, Any] = {}
        for value in tape.wrt:
            values[value] = values[value] + shifts[value].astype(values[value].dtype)
        for position, entry in enumerate(tape.entries):
            operands = [values[value] for value in entry.operands]
            results, partial_slopes = _evaluated(tape, entry, operands)
            slopes.update({(position, place): slope for place, slope in partial_slopes.items()})
            for value, result in zip(entry.results, results, strict=True):
                shift = shifts.get(value)
                values[value] = result if shift is None else result + shift.astype(result.dtype)
        return values, slopes

    return cast("Callable[..., Any]", jax.jit(run))


def _evaluated(tape: Tape, entry: Entry, operands: list[Any]) -> tuple[list[Any], dict[int, Any]]:
    """The results of an entry, and if it is elementwise its derivatives by active operands."""
    if entry.primitive is None:
        return [jnp.broadcast_to(operands[0], entry.params["shape"])], {}
    params = {key: value for key, value in entry.params.items() if key != "elementwise"}
    results = compat.bind(entry.primitive, operands, params)
    slopes: dict[int, Any] = {}
    if entry.is_elementwise and entry.results[0] in tape.active:
        places = [n for n, value in enumerate(entry.operands) if value in tape.active]

        def of_active(*active: Any) -> Any:
            changed = dict(zip(places, active, strict=True))
            bound = [changed.get(n, operand) for n, operand in enumerate(operands)]
            return compat.bind(entry.primitive, bound, params)[0]

        primals = [operands[n] for n in places]
        pull = cast("Callable[..., Any]", jax.vjp(of_active, *primals)[1])
        slopes = dict(zip(places, pull(jnp.ones_like(results[0])), strict=True))
    return results, slopes


def _is_opaque(aval: Any) -> bool:
    """Whether a value has entries that are not numbers, such as random keys."""
    return jnp.issubdtype(aval.dtype, jax.dtypes.extended)


def _double(array: Any) -> np.ndarray:
    """On the host, floats in double precision."""
    host = np.asarray(array)
    return host.astype(float) if jnp.issubdtype(host.dtype, jnp.floating) else host
