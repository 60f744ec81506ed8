"""What is taken for the Jacobian of a step by mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Local:
    """A step's numbers at the point.

    Attributes:
        start: the values of u.
        end: the values of v.
        diagonal: the diagonal of D_u v.
        at_end: the diagonal of the step's Jacobian at v in place of u.
        is_elementwise: whether D_u v has nothing but its diagonal.
        pulled: r ⋆ D_u v.
    """

    start: np.ndarray
    end: np.ndarray
    diagonal: np.ndarray
    at_end: np.ndarray
    is_elementwise: bool
    pulled: np.ndarray


@dataclass(frozen=True)
class Variant:
    """A Jacobian in place of a step's own.

    Attributes:
        name: of the mistake.
        hint: what was done in place of what; `{step}` stands for the step.
        diagonal: the diagonal of C, which has nothing else.
    """

    name: str
    hint: str
    diagonal: Any


@dataclass(frozen=True)
class Form:
    """An elementwise derivative as a function of the step's result, by which learners know it.

    Attributes:
        text: with `a` for the result.
        formula: the same to be computed.
        function: whose derivative it is.
    """

    text: str
    formula: Callable[[np.ndarray], np.ndarray]
    function: str


FORMS = (
    Form("a * (1 - a)", lambda a: a * (1 - a), "the logistic function"),
    Form("1 - a**2", lambda a: 1 - a**2, "tanh"),
)


def variants_of(local: Local) -> Iterator[Variant]:
    """The Jacobians that are taken for a step's own by mistake, the likeliest first."""
    unit_diagonal = np.ones_like(local.diagonal)
    if not local.is_elementwise:
        yield Variant("Jacobian left out", "the Jacobian of {step} was left out", unit_diagonal)
        hint = "of the Jacobian of {step} only the diagonal was taken"
        yield Variant("diagonal for the Jacobian", hint, local.diagonal)
        return
    hint = "the derivative of {step} was left out"
    yield Variant("derivative left out", hint, unit_diagonal)
    if np.ptp(local.diagonal) == 0:
        return  # linear: any other mistake is a constant factor
    hint = "the derivative of {step} is there twice"
    yield Variant("derivative taken twice", hint, local.diagonal**2)
    hint = "the derivative of {step} has the other sign"
    yield Variant("sign of a derivative", hint, -local.diagonal)
    hint = "the value of {step} was taken for its derivative"
    yield Variant("value for the derivative", hint, local.end)
    with np.errstate(all="ignore"):
        yield from _other_forms(local)
    hint = "the derivative of {step} was taken at its value a in place of its argument z"
    yield Variant("derivative at the value", hint, local.at_end)


def _other_forms(local: Local) -> Iterator[Variant]:
    """The formula of the derivative at the wrong array, and that of another function."""
    for form in FORMS:
        if not np.allclose(form.formula(local.end), local.diagonal, rtol=1e-4, atol=1e-6):
            continue
        text = form.text.replace("a", "z")
        hint = f"{text} was taken for {form.text}: the derivative of {{step}} is written by its "
        hint += "value a, but was given its argument z"
        yield Variant("argument for the value", hint, form.formula(local.start))
        for wrong in FORMS:
            if wrong is not form:
                hint = f"{wrong.text} was taken, which is the derivative of {wrong.function}, but "
                hint += f"that of {{step}} is {form.text}"
                yield Variant("derivative of another function", hint, wrong.formula(local.end))
