"""Numbers of a program as readers know them: `0.2`, and not the float32 that is nearest to it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from blockjac.explanations.expressions import Number

LARGEST_DENOMINATOR = 100
"""Of fractions that a number of single precision is taken for."""


def constant(value: Any, dtype: Any) -> Number:
    """A number in the fewest digits that tell it from others of its precision.

    Args:
        value: `0.20000000298023224`, say, which is how float64 reads the 0.2 of float32.
        dtype: of the program's array.
    """
    precision = np.dtype(dtype)
    if not isinstance(value, float) or precision.itemsize >= 8 or not np.isfinite(value):
        return Number(value)
    with np.errstate(over="ignore"):
        own = precision.type(value)
    if not np.isfinite(own) or bool(own) != bool(value):
        return Number(value)
    simple = float(Fraction(value).limit_denominator(LARGEST_DENOMINATOR))
    # Half precision has so few numbers that most are near to some fraction.
    is_simple = precision.itemsize == 4 and precision.type(simple) == own
    if is_simple:
        return Number(simple)
    rounded = (float(f"{value:.{digits}g}") for digits in range(1, 18))
    return Number(next((short for short in rounded if precision.type(short) == own), value))
