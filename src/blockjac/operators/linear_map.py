"""A linear map of arrays with named axes, and its application over batches."""

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
"""Scalar operations that a plan counts for each entry of a map's input and output."""


@dataclass(frozen=True, eq=False)
class Side:
    """The arrays that a map takes, or gives.

    Attributes:
        shapes: their shapes.
        dtypes: their dtypes.
        names: the names of their axes; None for an axis that the map mixes.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]
    names: tuple[Names, ...]

    def only(self, numbers: Sequence[int]) -> Side:
        """Some of the arrays."""
        return Side(
            tuple(self.shapes[number] for number in numbers),
            tuple(self.dtypes[number] for number in numbers),
            tuple(self.names[number] for number in numbers),
        )

    def axis(self, number: int, name: Hashable, size: int) -> int | None:
        """The axis of an array with a name and a size; None if it has no such axis."""
        for axis, axis_name in enumerate(self.names[number]):
            if axis_name is not None and (axis_name, self.shapes[number][axis]) == (name, size):
                return axis
        return None

    def core(self, number: int, side: Side, partner: int) -> int:
        """The number of entries of an array over the axes that an array of `side` does not have."""
        return math.prod(
            size
            for name, size in zip(self.names[number], self.shapes[number], strict=True)
            if side.axis(partner, name, size) is None
        )

    def resized(self, sizes: Mapping[Hashable, int]) -> Side:
        """The same arrays with new sizes of some axes, by name."""
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
        apply: from arrays of the shapes of `inputs` to arrays of those of `outputs`.
        inputs: the arrays that it takes.
        outputs: the arrays that it gives.
        uniform: names of axes along which the map does the same everywhere; it takes any number of
            values there.
        takes_none: whether `apply` takes None for a zero array.
    """

    apply: Callable[[Arrays], Arrays]
    inputs: Side
    outputs: Side
    uniform: frozenset[Hashable] = frozenset()
    takes_none: bool = False

    def only(self, inputs: Sequence[int], outputs: Sequence[int]) -> LinearMap:
        """From some of the inputs, with zeros for the others, to some of the outputs."""
        every = self.inputs

        def apply(parts: Arrays) -> Arrays:
            """The map of all inputs, of as many values on uniform axes as the parts have."""
            full = dict(zip(inputs, parts, strict=True))
            sizes = {
                name: size
                for number, part in full.items()
                if part is not None
                for name, size in zip(every.names[number], part.shape, strict=True)
                if name in self.uniform
            }
            shapes = every.resized(sizes).shapes
            for number, dtype in enumerate(every.dtypes):
                if number not in full:
                    full[number] = None if self.takes_none else jnp.zeros(shapes[number], dtype)
            results = self.apply([full[number] for number in sorted(full)])
            return [results[number] for number in outputs]

        return replace(
            self, apply=apply, inputs=self.inputs.only(inputs), outputs=self.outputs.only(outputs)
        )

    def on_one_value(self, names: Sequence[Hashable]) -> LinearMap:
        """The same map on one value of some uniform axes."""
        sizes = dict.fromkeys(names, 1)
        return replace(self, inputs=self.inputs.resized(sizes), outputs=self.outputs.resized(sizes))


def run(linear: LinearMap, values: Arrays, batch: Shape) -> Arrays:
    """Apply a map over leading batch axes that all values have."""
    results = [
        Abstract((*batch, *shape), dtype)
        for shape, dtype in zip(linear.outputs.shapes, linear.outputs.dtypes, strict=True)
    ]
    for result in results:
        backend().check_fits([Label(size) for size in result.shape], result.dtype)

    def once() -> Cost:
        entries = linear.inputs.entries + linear.outputs.entries
        work = work_of(math.prod(batch) * entries * WORK, linear.outputs.dtypes[0])
        return Cost(operator_operations=work["operations"], bytes=work["moved"])

    return backend().runs(once, 1, lambda: _applied(linear, values, batch), lambda: [*results])


def _applied(linear: LinearMap, values: Arrays, batch: Shape) -> Arrays:
    """The results of a map over leading batch axes, of which it knows nothing."""
    function: Callable[..., Arrays] = lambda *parts: list(linear.apply(list(parts)))  # noqa: E731
    if len(batch) < 2 or any(compat.is_placed(jax.typeof(value)) for value in values):
        for _ in batch:  # axes that lie on several devices stay as they are
            function = jax.vmap(function)
        return function(*values)
    # The batch is one axis: several would each be moved past the map's own axes.
    depth, count = len(batch), math.prod(batch)
    flat = [jnp.reshape(value, (count, *value.shape[depth:])) for value in values]
    results = jax.vmap(function)(*flat)
    return [jnp.reshape(result, (*batch, *result.shape[1:])) for result in results]


def work_of(operations: int, dtype: Any) -> dict[str, int]:
    """The cost of a map's operations, with the bytes that they move."""
    moved = operations * np.dtype(dtype).itemsize // WORK
    return {"operations": operations, "moved": moved}
