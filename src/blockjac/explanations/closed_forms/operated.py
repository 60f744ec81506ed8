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
from blockjac.explanations.expressions import Place
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
        types = [[compat.struct(jax.typeof(own)) for own in part] for part in (inputs, outs)]
        return Operated(equation, form, *types, helpers)

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
        result = self.equation.results.index(head)
        is_complex = np.dtype(self.outs[result].dtype).kind == "c"
        factors = {
            name: Factor(partial(arrays.factor, helper.array), helper.is_complex)
            for name, helper in self.helpers.items()
        }
        phase, rows = (axes[0], axes[1:]) if is_complex else (Place(), axes)
        terms: list[Partial] = []
        for number, operand in enumerate(self.equation.operands):
            if isinstance(operand, Operand) and operand.vertex == tail:
                own = self.inputs[number]
                is_complex = np.dtype(own.dtype).kind == "c"
                shape = tuple(own.shape)
                terms += self.form.terms(
                    Request(
                        self.equation,
                        result,
                        number,
                        shape,
                        is_complex,
                        phase,
                        tuple(rows),
                        factors,
                    )
                )
        return terms
