"""How entries are read through primitives that move them, sum them, or contract them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from blockjac.explanations import expressions as ex
from blockjac.explanations.expressions import Expression, Number, Place
from blockjac.explanations.places import fresh, plus
from blockjac.explanations.reading import READ, Reader

Reading = Callable[[Reader, Any, Sequence[Place]], Expression | None]


def reads(*names: str) -> Callable[[Reading], Reading]:
    """Register how an entry of a primitive's result is read."""

    def register(reading: Reading) -> Reading:
        """Register it for each name."""
        READ.update(dict.fromkeys(names, reading))
        return reading

    return register


@reads("broadcast_in_dim")
def broadcast(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
    """`out[l] = x[those of l that are x's axes]`, 0 along axes of size 1."""
    (operand, *_) = equation.invars
    axes: Sequence[int] = equation.params["broadcast_dimensions"]
    at: list[Place] = [
        Place() if size == 1 else places[axis]
        for axis, size in zip(axes, operand.aval.shape, strict=True)
    ]
    return reader.entry(operand, at)


@reads("reshape", "squeeze", "expand_dims")
def reshape(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression | None:
    """Axes of size 1 come and go; what joins or splits axes has no formula here."""
    (operand, *_), (result,) = equation.invars, equation.outvars
    shape, own = result.aval.shape, operand.aval.shape
    if [size for size in shape if size != 1] != [size for size in own if size != 1]:
        return None
    rest = iter([place for place, size in zip(places, shape, strict=True) if size != 1])
    return reader.entry(operand, [Place() if size == 1 else next(rest) for size in own])


@reads("transpose")
def transpose(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
    """`out[l] = x[l permuted]`."""
    (operand,), permutation = equation.invars, equation.params["permutation"]
    at = [Place()] * len(places)
    for axis, source in enumerate(permutation):
        at[source] = places[axis]
    return reader.entry(operand, at)


@reads("slice")
def slice_(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
    """`out[l] = x[start + stride l]`."""
    (operand,), params = equation.invars, equation.params
    strides = params["strides"] or [1] * len(places)
    at = [
        plus(Place(start), place, stride)
        for start, place, stride in zip(params["start_indices"], places, strides, strict=True)
    ]
    return reader.entry(operand, at)


@reads("rev")
def reverse(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
    """`out[l] = x[size - 1 - l]`."""
    (operand,), dimensions = equation.invars, equation.params["dimensions"]
    at = [
        plus(Place(size - 1), place, -1) if axis in dimensions else place
        for axis, (place, size) in enumerate(zip(places, operand.aval.shape, strict=True))
    ]
    return reader.entry(operand, at)


def _reduction(kind: str) -> Reading:
    """How an entry of a reduction is read."""

    def read(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
        """`out[l] = the sum over k of x[l, k]`."""
        (operand,), axes = equation.invars, equation.params["axes"]
        rest = iter(places)
        letters: list[ex.Letter] = []
        at: list[Place] = []
        for axis, size in enumerate(operand.aval.shape):
            if axis in axes:
                letter = fresh(size)
                at.append(Place.of(letter))
                letters += [letter] if size != 1 else []
            else:
                at.append(next(rest))
        return ex.over(kind, tuple(letters), reader.entry(operand, at))

    return read


for _kind in ("sum", "prod", "max", "min"):
    reads(f"reduce_{_kind}")(_reduction(_kind))


@reads("dot_general")
def dot(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
    """`out[b, i, j] = sum_k lhs[b, i, k] rhs[b, k, j]`."""
    lhs, rhs = equation.invars
    contracted, batched = equation.params["dimension_numbers"]
    rest = iter(places)
    shared = [next(rest) for _ in batched[0]]
    letters = [fresh(lhs.aval.shape[axis]) for axis in contracted[0]]

    def at(operand: Any, axes: Sequence[int], batch: Sequence[int]) -> list[Place]:
        """The places of an operand."""
        own: list[Place] = []
        for axis in range(len(operand.aval.shape)):
            if axis in batch:
                own.append(shared[list(batch).index(axis)])
            elif axis in axes:
                own.append(Place.of(letters[list(axes).index(axis)]))
            else:
                own.append(next(rest))
        return own

    left = reader.entry(lhs, at(lhs, contracted[0], batched[0]))
    right = reader.entry(rhs, at(rhs, contracted[1], batched[1]))
    summed = tuple(letter for letter in letters if letter.size != 1)
    return ex.over("sum", summed, ex.product([left, right]))


@reads("integer_pow")
def integer_power(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
    """`out = x**n`."""
    (operand,) = equation.invars
    exponent = equation.params["y"]
    base = reader.entry(operand, places)
    if exponent < 0:
        power = ex.Power(base, Number(-exponent)) if exponent != -1 else base
        return ex.Quotient(ex.ONE, power)
    return ex.Power(base, Number(exponent))


@reads("select_n")
def select(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression | None:
    """`out = where(mask, second, first)`."""
    if len(equation.invars) != 3 or equation.invars[0].aval.dtype != np.bool_:
        return None
    mask, if_false, if_true = (
        reader.entry(atom, places if atom.aval.shape else ()) for atom in equation.invars
    )
    return if_true if if_true == if_false else ex.Applied("where", (mask, if_true, if_false))


@reads("convert_element_type")
def convert(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression | None:
    """The number itself, where its new type has a place for it."""
    (operand,) = equation.invars
    before, after = np.dtype(operand.aval.dtype).kind, np.dtype(equation.params["new_dtype"]).kind
    order = "biufc"
    is_wider = before in order and after in order and order.index(before) <= order.index(after)
    return reader.entry(operand, places) if is_wider or before == after else None


@reads("clamp")
def clamp(reader: Reader, equation: Any, places: Sequence[Place]) -> Expression:
    """`out = min(max(x, low), high)`."""
    low, operand, high = (
        reader.entry(atom, places if atom.aval.shape else ()) for atom in equation.invars
    )
    return ex.Applied("min", (ex.Applied("max", (operand, low)), high))
