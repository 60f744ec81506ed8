"""Mistakes within one step of the chain rule, each made in the exact derivative.

A step is a part of the program, from a value u to a value v of the same shape, that everything on
the way to v passes. Its Jacobian is taken for another one, once or wherever a loop repeats it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from blockjac.base import compat
from blockjac.checking.candidates import Candidate
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.passes import Change, Edge, Passes
from blockjac.checking.report import Mistake
from blockjac.checking.slopes import BY_VALUE
from blockjac.checking.step_variants import (
    Local,
    elementwise_variants,
    row_variants,
)
from blockjac.checking.steps import Step, steps_of
from blockjac.checking.tape import Arrays
from blockjac.checking.variant import Variant

Make = Callable[[np.ndarray], Iterator[Variant]]
"""From the cotangent of a step's end, what is taken for that of its start."""

MAX_ROW = 64
"""Up to this length of a row the Jacobian of a step is written out."""

MAX_JACOBIAN = 2**20
"""Up to this many entries."""

RANKS = (18, 19, 20, 26)
"""How likely a mistake in a step is, by the rank of the step."""


ROW_RANKS = (18, 19, 20, 23)
"""The same where the Jacobian has a matrix for each row: a library's function is part of a line."""

LINEAR = frozenset({"mul", "div", "add", "sub", "neg", "copy", "convert_element_type"})
"""Entries that are linear where all operands but one are constant."""

LAST_SINGLE = 2
"""The rank of a step that is one entry of the program."""

OTHERS_RANK = 29
"""How likely another step's derivative is taken."""

MOST_OTHERS = 24
"""Of how many steps the derivatives are tried in place of others."""

MULTIPLE_DOUBT = 6
"""A step that is only a multiplication by constants is rather called a factor."""


class Steps:
    """The steps of a function at a point.

    Args:
        passes: the exact reverse pass.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.tape = passes.tape
        self.steps = steps_of(passes)
        self._points: dict[int, Make | None] = {}
        self._called: dict[tuple[int, int], str] = {}

    def candidates(self, step: Step, known: Dictionary) -> Iterator[Candidate]:
        """The mistakes in one step, as changes of the cotangent of its start.

        Args:
            step: the step.
            known: the arrays of the program.
        """
        variants = self.variants(step)
        if variants is None:
            return
        c = self.passes.exact[step.end]
        if not np.isfinite(c).all():
            return
        right = self._pulled(step, c)
        for variant in variants(c):
            if np.isfinite(variant.cotangent).all():
                mistake = Mistake(variant.name, variant.hint.format(step=step))
                rank = self.rank(step) + variant.doubt
                yield Candidate(mistake, step.start, variant.cotangent - right, rank=rank)
        if step.is_elementwise:
            yield from self._of_another(step, c, right)
            yield from self._at_another(step, c, right, known)

    def _of_another(self, step: Step, c: np.ndarray, right: np.ndarray) -> Iterator[Candidate]:
        """The derivative of another step, such as another layer's, in place of this one's."""
        own = self.slopes.get(step.start, {}).get(step.end)
        if own is None:
            return
        for start, ends in self.slopes.items():
            for end, other in ends.items():
                if (start, end) != (step.start, step.end) and other.shape == own.shape:
                    called = self._called[start, end]
                    hint = f"the derivative of {called} was taken for that of {step}"
                    mistake = Mistake("wrong factor", hint)
                    yield Candidate(mistake, step.start, c * other - right, rank=OTHERS_RANK)

    def _at_another(
        self, step: Step, c: np.ndarray, right: np.ndarray, known: Dictionary
    ) -> Iterator[Candidate]:
        """The formula of the derivative, at the wrong array."""
        if step.rank > LAST_SINGLE or not c.size:
            return
        own = self._between(step, np.ones(self.tape.shape(step.start)))
        end = self.tape.values[step.end]
        for form in BY_VALUE:
            if not np.ptp(own) or not np.allclose(form.formula(end), own, rtol=1e-4, atol=1e-6):
                continue
            for array in known.like(end.shape):
                with np.errstate(all="ignore"):
                    change = c * form.formula(array.array) - right
                hint = f"{array.name} was taken for a in {form.text}, the derivative of {step}"
                yield Candidate(Mistake("wrong factor", hint), step.start, change, rank=30)

    @cached_property
    def slopes(self) -> dict[int, dict[int, np.ndarray]]:
        """The derivatives of functions, lines and entries that are not linear, by start and end."""
        slopes: dict[int, dict[int, np.ndarray]] = {}
        for step in self.steps:
            is_named = step.rank < 3 and bool(compat.at_place(step.entries[-1].source))
            if is_named and step.is_elementwise and len(self._called) < MOST_OTHERS:
                slope = self._between(step, np.ones(self.tape.shape(step.start)))
                if np.isfinite(slope).all() and slope.size and np.ptp(slope):
                    slopes.setdefault(step.start, {})[step.end] = slope
                    self._called[step.start, step.end] = str(step)
        return slopes

    def rank(self, step: Step) -> int:
        """How likely a mistake in a step is; a row's Jacobian is known by its form."""
        if not step.is_elementwise:
            return ROW_RANKS[step.rank]
        is_a_multiple = all(
            entry.name in LINEAR and len(self.tape.active.intersection(entry.operands)) == 1
            for entry in step.entries
        )
        return RANKS[step.rank] + MULTIPLE_DOUBT * is_a_multiple

    def changed(self, step: Step, make: Make, wanted: tuple[str, int]) -> dict[Edge, Change]:
        """The edges from the start of a step: one of them passes a variant, the rest nothing.

        Args:
            step: whose derivative changes.
            make: its variants.
            wanted: the variant's name, and its number among those of its name.
        """
        edges = [edge for edge in self.passes.readers[step.start] if edge[0] in step.positions]

        def whole(_: np.ndarray, cotangents: Arrays) -> np.ndarray:
            c = cotangents[step.end]
            named = (variant for variant in make(c) if variant.name == wanted[0])
            variant = next(itertools.islice(named, wanted[1] - 1, None), None)
            return self._pulled(step, c) if variant is None else variant.cotangent

        def nothing(c: np.ndarray, _: Arrays) -> np.ndarray:
            return np.zeros(self.tape.shape(step.start))

        edges.sort()
        return {edges[-1]: whole, **dict.fromkeys(edges[:-1], nothing)}

    def variants(self, step: Step) -> Make | None:
        """From the cotangent of a step's end, what is taken for that of its start."""
        key = id(step)
        if key not in self._points:
            made = self._elementwise(step) if step.is_elementwise else self._by_rows(step)
            self._points[key] = made
        return self._points[key]

    # One step's numbers

    def _between(self, step: Step, tangent: np.ndarray) -> np.ndarray:
        """The tangent of the end of a step that a tangent of its start leads to."""
        moved = self.passes.forward({step.start: tangent}, step.positions[0], step.positions[-1])
        return moved.get(step.end, np.zeros(self.tape.shape(step.end)))

    def _pulled(self, step: Step, cotangent: np.ndarray) -> np.ndarray:
        """The cotangent of the start of a step that is due to that of its end."""
        below = self.passes.below(step.end, cotangent, stop=step.positions[0])
        return below.get(step.start, np.zeros(self.tape.shape(step.start)))

    def _elementwise(self, step: Step) -> Make | None:
        """The variants of an elementwise step, from the cotangent of its end."""
        start, end = self.tape.values[step.start], self.tape.values[step.end]
        diagonal = self._between(step, np.ones(start.shape))
        if not np.isfinite(diagonal).all():
            return None
        at_end = None
        if step.rank < 3 and start.size and np.ptp(diagonal):
            tape = self.tape.read_at({step.start: end - start})
            moved = Passes(tape, self.passes.seeds).forward(
                {step.start: np.ones(start.shape)}, step.positions[0], step.positions[-1]
            )
            at_end = moved[step.end]

        def make(cotangent: np.ndarray) -> Iterator[Variant]:
            return elementwise_variants(Local(start, end, diagonal, at_end, cotangent))

        return make

    def _by_rows(self, step: Step) -> Make | None:
        """The variants of a step that computes each row by itself."""
        start, end = self.tape.values[step.start], self.tape.values[step.end]
        probe = np.random.default_rng(0).normal(size=end.shape)
        pulled = self._pulled(step, probe)
        for axis in range(end.ndim - 1, -1, -1):
            size = end.shape[axis]
            if not 1 < size <= MAX_ROW or not 0 < end.size * size <= MAX_JACOBIAN:
                continue
            jacobian = self._jacobian(step, axis)
            rows = np.moveaxis(probe, axis, -1).reshape(-1, size)
            again = np.einsum("ni,nij->nj", rows, jacobian)
            expected = np.moveaxis(pulled, axis, -1).reshape(-1, size)
            if np.allclose(again, expected, rtol=1e-5, atol=1e-6 * (np.abs(expected).max() or 1)):

                def make(
                    cotangent: np.ndarray, jacobian: np.ndarray = jacobian, axis: int = axis
                ) -> Iterator[Variant]:
                    return row_variants(jacobian, cotangent, start, end, axis)

                return make
        return self._by_diagonal(step)

    def _by_diagonal(self, step: Step) -> Make:
        """Of a Jacobian that is not known row by row, that it was left out."""
        hint = "the Jacobian of {step} was left out"
        return lambda cotangent: iter([Variant("Jacobian left out", hint, cotangent)])

    def _jacobian(self, step: Step, axis: int) -> np.ndarray:
        """The Jacobian of each row, of shape (rows, i, j), if the rows are independent."""
        shape = self.tape.shape(step.start)
        size = shape[axis]
        columns: list[np.ndarray] = []
        for j in range(size):
            tangent = np.zeros(shape)
            np.moveaxis(tangent, axis, -1)[..., j] = 1
            moved = np.moveaxis(self._between(step, tangent), axis, -1)
            columns.append(moved.reshape(-1, size))
        return np.stack(columns, axis=-1)
