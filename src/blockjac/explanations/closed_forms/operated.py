"""Equations whose Jacobians have a closed form, and what these read in a traced program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from blockjac.base import compat
from blockjac.elimination.elimination_graph import Vertex
from blockjac.elimination.evaluate import read
from blockjac.explanations.closed_forms.form import (
    CLOSED_FORMS,
    ClosedForm,
    Factor,
    Helper,
    Request,
)
from blockjac.explanations.contraction import Arrays, Partial
from blockjac.explanations.expressions import Expression, Place
from blockjac.graph.graph import Equation, Operand


@dataclass(frozen=True, eq=False)
class Operated:
    """An equation whose Jacobians have a closed form.

    Attributes:
        equation: the equation.
        form: of its Jacobians.
        inputs: its operands; types once it has been traced.
        outs: its results, likewise.
        helpers: what the form reads; positions among the results of `closed` once it is traced.
    """

    equation: Equation
    form: ClosedForm
    inputs: Sequence[Any]
    outs: Sequence[Any]
    helpers: dict[str, Helper]

    @staticmethod
    def of(equation: Equation | None, values: Sequence[Any]) -> Operated | None:
        """What an equation is in closed form; None if it has none.

        Args:
            equation: the equation.
            values: of the program, by number.
        """
        if equation is None or equation.primitive.name not in CLOSED_FORMS:
            return None
        inputs = [compat.jax_array(read(operand, values)) for operand in equation.operands]
        form = CLOSED_FORMS[equation.primitive.name]
        if not form.is_closed(equation, inputs):
            return None
        outs = [values[result] for result in equation.results]
        helpers = {
            name: helper.in_pairs for name, helper in form.arrays(equation, inputs, outs).items()
        }
        for out, word in zip(outs, form.results, strict=False):
            helpers[word] = Helper(out, word, tuple(inputs[: word.count("{}")]))
        before, after = [
            [compat.struct(jax.typeof(own)) for own in part] for part in (inputs, outs)
        ]
        return Operated(equation, form, before, after, helpers)

    def terms(
        self, head: Vertex, tail: Vertex, axes: Sequence[Place], arrays: Arrays
    ) -> list[Partial]:
        """The block of a result by a variable, from places on the result's axes.

        Args:
            head: the result.
            tail: the variable.
            axes: places on the axes of the result.
            arrays: gives entries of the helpers.
        """
        number = self.equation.results.index(head)
        phase, rows = split(axes, self.outs[number])
        terms: list[Partial] = []
        for position, operand in enumerate(self.equation.operands):
            if not isinstance(operand, Operand) or operand.vertex != tail:
                continue
            own = self.inputs[position]
            batch = rows[: len(own.shape) - 2]
            factors = {
                name: Factor(partial(_entry, helper, arrays, batch), helper.is_complex)
                for name, helper in self.helpers.items()
            }
            shape, is_complex = tuple(own.shape), np.dtype(own.dtype).kind == "c"
            terms += self.form.terms(
                Request(
                    self.equation, number, position, shape, is_complex, phase, rows, batch, factors
                )
            )
        return terms


def split(axes: Sequence[Place], own: Any) -> tuple[Place, tuple[Place, ...]]:
    """The place on the axis of real and imaginary parts, 0 if there is none, and the others.

    Args:
        axes: places on the axes that a variable has in the chain rule.
        own: the variable, or what has its dtype.
    """
    is_complex = np.dtype(own.dtype).kind == "c"
    return (axes[0], tuple(axes[1:])) if is_complex else (Place(), tuple(axes))


def _entry(helper: Helper, arrays: Arrays, batch: Sequence[Place], *places: Place) -> Expression:
    """An entry of a helper; what a formula computes has a name, as textbooks give it."""
    first = 2 if helper.is_complex else 0
    whole = (*places[:first], *batch, *places[first:])
    is_formula = not helper.word and not helper.sources
    return (arrays.lookup if is_formula else arrays.factor)(helper.array, whole)
