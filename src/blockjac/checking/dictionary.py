"""What may be taken for something else by mistake: the arrays that a program computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from blockjac.base import compat
from blockjac.checking.passes import Passes
from blockjac.checking.slopes import BY_VALUE, logistic, of_logistic, of_tanh, softmax

MAX_ENTRIES = 2**18
"""Larger arrays are not compared with others."""


@dataclass(frozen=True, eq=False)
class Known:
    """An array that a learner has at hand.

    Attributes:
        name: what it is called.
        array: its numbers.
        value: the tape's value that it is, or is computed from.
    """

    name: str
    array: np.ndarray
    value: int


class Dictionary:
    """The values of a program, and their cotangents, by shape.

    Args:
        passes: the exact reverse pass.
        names: of the tape's inputs.
    """

    def __init__(self, passes: Passes, names: dict[int, str]) -> None:
        self.passes = passes
        self.tape = passes.tape
        self.names = names

    def name(self, value: int) -> str:
        """What a value is called in a hint: its argument's name, or the line that computes it."""
        if value in self.names:
            return self.names[value]
        position = self.passes.makers.get(value)
        if position is None:
            return f"a constant of shape {self.tape.shape(value)}"
        entry = self.tape.entries[position]
        return f"the result of {entry.name}{compat.at_place(entry.source)}"

    @cached_property
    def _by_shape(self) -> dict[tuple[int, ...], list[Known]]:
        """Different arrays that are not constant, by shape; of a matrix the transpose too."""
        known: dict[tuple[int, ...], list[Known]] = {}
        marks: set[tuple[object, ...]] = set()
        for value, array in self.tape.values.items():
            if not 1 < array.size <= MAX_ENTRIES or array.dtype == object:
                continue
            numbers = array.astype(float) if array.dtype.kind in "biuf" else None
            if numbers is None or not np.isfinite(numbers).all() or np.ptp(numbers) == 0:
                continue
            shapes = [("", numbers), (".T", numbers.T)] if array.ndim == 2 else [("", numbers)]
            for suffix, entries in shapes:
                mark = (entries.shape, *np.round(entries.ravel()[:4], 9), float(entries.sum()))
                if mark not in marks:
                    marks.add(mark)
                    known.setdefault(entries.shape, []).append(
                        Known(self.name(value) + suffix, entries, value)
                    )
        return known

    @cached_property
    def divisors(self) -> set[int]:
        """The values that the program divides by, and what they are broadcast from."""
        return self._operands("div", (1,))

    @cached_property
    def multipliers(self) -> set[int]:
        """The values that the program multiplies by or divides, and what these are of."""
        return self._operands("mul", (0, 1)) | self._operands("div", (0,))

    def _operands(self, name: str, places: tuple[int, ...]) -> set[int]:
        """The operands of all entries of a primitive in some places."""
        values = {
            entry.operands[place]
            for entry in self.tape.entries
            if entry.name == name
            for place in places
        }
        for entry in reversed(self.tape.entries):
            if entry.name == "broadcast_in_dim" and values.intersection(entry.results):
                values.update(entry.operands)
        return values

    def like(self, shape: tuple[int, ...]) -> list[Known]:
        """The arrays of a shape."""
        return self._by_shape.get(shape, [])

    def cotangents(self, shape: tuple[int, ...]) -> Iterator[Known]:
        """The cotangents of a shape."""
        for value, array in self.passes.exact.items():
            if array.shape == shape and array.size <= MAX_ENTRIES:
                yield Known(f"the cotangent of {self.name(value)}", array, value)

    def functions_of(self, value: int) -> Iterator[Known]:
        """What the usual functions make of a value, and their derivatives."""
        array = self.tape.values[value]
        if array.size > MAX_ENTRIES or not np.isfinite(array).all():
            return
        name = self.name(value)
        with np.errstate(all="ignore"):
            for text, function in FUNCTIONS.items():
                yield Known(f"{text} of z = {name}", function(array), value)
            if array.ndim:
                yield Known(f"softmax(z) of z = {name}", softmax(array), value)

    def slopes_of(self, value: int) -> Iterator[Known]:
        """What the derivatives of usual functions make of a value: by their value, or argument."""
        array = self.tape.values[value]
        if array.size > MAX_ENTRIES or not np.isfinite(array).all():
            return
        with np.errstate(all="ignore"):
            for text, function in SLOPES.items():
                yield Known(f"{text} of a = {self.name(value)}", function(array), value)


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "logistic(z)": logistic,
    "tanh(z)": np.tanh,
    "exp(z)": np.exp,
}
"""Functions whose values a formula may have where the program has not."""

SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{form.text: form.formula for form in BY_VALUE},
    "p * (1 - p), p = logistic(a),": of_logistic,
    "p * (1 - p), p = softmax(a),": lambda a: softmax(a) * (1 - softmax(a)) if a.ndim else a,
    "1 - tanh(a)**2": of_tanh,
}
"""Derivatives of usual functions, by their value or by their argument."""
