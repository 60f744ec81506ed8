"""How large the rounding of a derivative may be, where its terms nearly cancel.

The derivative by a bias in front of a normalization is 0, and a right program for it gives a few
rounding errors: any relative tolerance calls that wrong. So the program is rounded at random, all
its values and all its cotangents by the last digit, and the effect on the derivative is its noise.
"""

from __future__ import annotations

from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from blockjac.checking.passes import Passes
from blockjac.checking.tape import Arrays

TRIALS = 3
"""How often the program is rounded."""

MARGIN = 30.0
"""How much more rounding than that is allowed: of another order of the same sums, for example."""


def noise(passes: Passes, dtypes: list[Any]) -> dict[int, float]:
    """The largest rounding error of an entry to be expected, by differentiated input.

    Args:
        passes: the exact reverse pass.
        dtypes: in which the derivatives were computed; the coarsest counts.
    """
    tape = passes.tape
    inexact = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)]
    unit = max(float(cast("Any", jnp.finfo(dtype)).eps) for dtype in inexact)
    generator = np.random.default_rng(0)
    largest = dict.fromkeys(tape.wrt, 0.0)
    for _ in range(TRIALS):
        values = {v: _rounded(tape.values[v], unit, generator) for v in sorted(tape.active)}
        moved = Passes(tape.read_at(values), passes.seeds).exact
        back: Arrays = {v: _rounded(c, unit, generator) for v, c in passes.exact.items()}
        spread = passes.swept(back)
        for value in tape.wrt:
            if value in moved and value in spread:
                change = np.abs(moved[value] - passes.exact[value]) + np.abs(spread[value])
                finite = change[np.isfinite(change)]
                largest[value] = max(largest[value], float(finite.max(initial=0.0)))
    return {value: MARGIN * error for value, error in largest.items()}


def _rounded(array: np.ndarray, unit: float, generator: np.random.Generator) -> np.ndarray:
    """A random rounding error of each entry."""
    errors = unit * array * generator.uniform(-1, 1, size=array.shape)
    return np.where(np.isfinite(errors), errors, 0.0)
