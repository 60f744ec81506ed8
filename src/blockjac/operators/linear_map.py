"""A linear map of arrays, with names for their axes, and what it gives over batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.backend import backend
from blockjac.algebra.cost import Abstract, Cost
from blockjac.base import compat
from blockjac.base.arrays import Shape
from blockjac.terms.index import Label

Arrays = Sequence[Any]
Names = tuple[Hashable, ...]

WORK = 8
"""Scalar operations that a plan counts an entry of a map's input and output, applied once."""


@dataclass(frozen=True, eq=False)
class Side:
    """What goes into a map, or comes out of it.

    Attributes:
        shapes: of its arrays.
        dtypes: of its arrays.
        names: of the axes of its arrays; None for an axis that the map mixes.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]
    names: tuple[Names, ...]

    def only(self, places: Sequence[int]) -> Side:
        """Some of the arrays."""
        return Side(
            tuple(self.shapes[place] for place in places),
            tuple(self.dtypes[place] for place in places),
            tuple(self.names[place] for place in places),
        )

    def axis(self, place: int, name: Hashable, size: int) -> int | None:
        """The axis of an array that has a name and a size; None if there is none."""
        for axis, own in enumerate(self.names[place]):
            if own is not None and own == name and self.shapes[place][axis] == size:
                return axis
        return None

    def core(self, place: int, other: Side, partner: int) -> int:
        """The number of entries of an array apart from the axes that an array of `other` shares."""
        return math.prod(
            size
            for name, size in zip(self.names[place], self.shapes[place], strict=True)
            if other.axis(partner, name, size) is None
        )

    def resized(self, sizes: Mapping[Hashable, int]) -> Side:
        """The same arrays with other sizes of axes by their names."""
        return replace(
            self,
            shapes=tuple(
                tuple(sizes.get(name, size) for name, size in zip(names, shape, strict=True))
                for names, shape in zip(self.names, self.shapes, strict=True)
            ),
        )

    @property
    def entries(self) -> int:
        """The number of entries of all arrays."""
        return sum(map(math.prod, self.shapes))


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear map from arrays to arrays.

    Attributes:
        apply: from arrays of the shapes of `given` to arrays of those of `made`.
        given: what goes in.
        made: what comes out.
        uniform: names of axes along which the map does the same everywhere; it takes any number of
            values there.
        takes_none: whether `apply` takes None for what is zero.
    """

    apply: Callable[[Arrays], Arrays]
    given: Side
    made: Side
    uniform: frozenset[Hashable] = frozenset()
    takes_none: bool = False

    def only(self, inputs: Sequence[int], outputs: Sequence[int]) -> LinearMap:
        """From some of the inputs, with zeros for the others, to some of the outputs."""
        chosen = dict(enumerate(inputs))
        every, absent = self.given, [k for k in range(len(self.given.shapes)) if k not in inputs]

        def apply(parts: Arrays) -> Arrays:
            full = {chosen[number]: part for number, part in enumerate(parts)}
            sizes = {
                name: size
                for place, part in full.items()
                if part is not None
                for name, size in zip(every.names[place], part.shape, strict=True)
                if name in self.uniform
            }
            zeros = every.resized(sizes)
            for place in absent:
                full[place] = (
                    None if self.takes_none else jnp.zeros(zeros.shapes[place], zeros.dtypes[place])
                )
            results = self.apply([full[place] for place in sorted(full)])
            return [results[place] for place in outputs]

        return replace(
            self, apply=apply, given=self.given.only(inputs), made=self.made.only(outputs)
        )

    def on_one_value(self, names: Sequence[Hashable]) -> LinearMap:
        """The same map on one value of some uniform axes."""
        sizes = dict.fromkeys(names, 1)
        return replace(self, given=self.given.resized(sizes), made=self.made.resized(sizes))


def run(linear: LinearMap, values: Arrays, batch: Shape) -> Arrays:
    """Apply a map over leading batch axes that all values have."""
    results = [
        ((*batch, *shape), dtype)
        for shape, dtype in zip(linear.made.shapes, linear.made.dtypes, strict=True)
    ]
    for shape, dtype in results:
        backend().check_fits([Label(size) for size in shape], dtype)

    def once() -> Cost:
        entries = linear.given.entries + linear.made.entries
        work = work_of(math.prod(batch) * entries * WORK, linear.made.dtypes[0])
        return Cost(operator_operations=work["operations"], bytes=work["moved"])

    return backend().runs(
        once,
        1,
        lambda: _applied(linear, values, batch),
        lambda: [Abstract(*one) for one in results],
    )


def _applied(linear: LinearMap, values: Arrays, batch: Shape) -> Arrays:
    """What a map gives over leading batch axes, of which it knows nothing."""
    function: Callable[..., Arrays] = lambda *parts: list(linear.apply(list(parts)))  # noqa: E731
    if len(batch) < 2 or any(compat.is_placed(jax.typeof(value)) for value in values):
        for _ in batch:  # axes that lie on several devices stay as they are
            function = jax.vmap(function)
        return function(*values)
    # One axis for all of the batch: each axis of its own would be moved past the map's own axes.
    depth, count = len(batch), math.prod(batch)
    flat = [jnp.reshape(value, (count, *value.shape[depth:])) for value in values]
    results = jax.vmap(function)(*flat)
    return [jnp.reshape(one, (*batch, *one.shape[1:])) for one in results]


def work_of(operations: int, dtype: Any) -> dict[str, int]:
    """What operations of a map take, with the bytes that come with them."""
    moved = operations * np.dtype(dtype).itemsize // WORK
    return {"operations": operations, "moved": moved}
