"""Fourier transforms: each entry of the Jacobian is the cosine of an angle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from blockjac.explanations import expressions as ex
from blockjac.explanations.closed_forms.form import CLOSED_FORMS, ClosedForm, Helper, Request
from blockjac.explanations.contraction import Partial
from blockjac.explanations.expressions import Expression, Number, Place
from blockjac.explanations.places import angle, equal, plus
from blockjac.graph.graph import Equation

FORWARD, INVERSE, OF_REAL, TO_REAL = range(4)
"""JAX's kinds of transforms."""


def _no_arrays(equation: Equation, inputs: Sequence[Any], outs: Sequence[Any]) -> dict[str, Helper]:
    """A transform reads nothing."""
    del equation, inputs, outs
    return {}


def _transform(request: Request) -> list[Partial]:
    """`exp(-2 pi i j k / n)` on pairs of real and imaginary parts, `c` after it and `d` before.

    forward   cos(2 pi (j k / n + (c - d) / 4))
    inverse   cos(2 pi (j k / n + (d - c) / 4)) / n
    to real   cos(2 pi (j k / n + d / 4)) / n times 2 but at the ends, for both halves
    """
    params = request.equation.params
    kind, lengths = int(params["fft_type"]), tuple(params["fft_lengths"])
    depth = len(request.shape) - len(lengths)
    term = request.chain()
    before = term.letter(2) if request.is_complex else Place()
    places = [term.letter(size) for size in request.shape[depth:]]
    turned = plus(request.phase, before, -1)
    if kind in (INVERSE, TO_REAL):
        turned = plus(before, request.phase, -1)
    turns = [
        *zip(request.rows[depth:], places, lengths, strict=True),
        (turned, Place(1), 4),
    ]
    whole = angle(turns)
    term.times(ex.ONE if whole == ex.ZERO else ex.Applied("cos", (whole,)))
    if kind in (INVERSE, TO_REAL):
        term.times(ex.Quotient(ex.ONE, Number(math.prod(lengths))))
    if kind == TO_REAL:
        term.times(*_halves(places[-1], lengths[-1]))
    axes = (*([before] if request.is_complex else []), *request.rows[:depth], *places)
    return [Partial(tuple(term.factors), axes, tuple(term.bound))]


def _halves(place: Place, length: int) -> list[Expression]:
    """2 but at the ends: an entry that is given stands for the one of the negative frequency."""
    if length <= 2:
        return []
    ends = [Place()] if length % 2 else [Place(), Place(length // 2)]
    terms = [ex.Negative(equal(place, end)) for end in ends]
    return [ex.Total((Number(2), *terms))]


CLOSED_FORMS["fft"] = ClosedForm(_no_arrays, _transform)
