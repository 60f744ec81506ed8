"""Words for arrays that blocks of complex numbers hold: formulas say what these are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blockjac.blocks import Block, Term
from blockjac.elimination.evaluate import read
from blockjac.explanations.closed_forms.form import IN_PAIRS, Helper
from blockjac.graph.graph import Equation
from blockjac.operators.operator import Edge
from blockjac.rules.complex_numbers import Holomorphic
from blockjac.rules.complex_parts import is_complex, is_complex_term


def described(
    edge: Edge, block: Block, equation: Equation | None, values: Sequence[Any]
) -> list[Helper]:
    """Words for arrays of a block.

    Args:
        edge: the elemental Jacobian as it is applied.
        block: as it is written.
        equation: that it is of.
        values: of the program, by number.
    """
    if equation is not None and equation.primitive.name == "abs":
        operand = read(equation.operands[0], values)
        if is_complex(operand):
            word = "(Re {0}, Im {0}) / |{0}|"
            return [Helper(factor.array, word, (operand,)) for factor in block.terms[0].factors]
    if isinstance(edge, Block) or not isinstance(edge.group, Holomorphic):
        return []
    return [
        _of_numbers(term, pairs.factors[-1].array)
        for term, pairs in zip(edge.group.held.terms, block.terms, strict=True)
        if is_complex_term(term)
    ]


def _of_numbers(term: Term, pairs: Any) -> Helper:
    """What the complex numbers of a term are in pairs."""
    numbers = [factor.array for factor in term.factors if is_complex(factor.array)]
    words = ["{}"] * len(numbers)
    coefficient = term.coefficient
    if isinstance(coefficient, complex):
        words = [f"({coefficient.real:g}{coefficient.imag:+g}i)", *words]
    return Helper(pairs, IN_PAIRS.format(" ".join(words)), tuple(numbers), True)
